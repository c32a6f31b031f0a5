"""Dynamic weight sharing: what lateral connections and Hebbian plasticity make of weights.

Of networks: :func:`sleep_phase`. The theory of appendix A, on weights (N, d) of one pool: rules,
where they lead and how fast, the circuit that implements them, and its faster, exact form.
"""

from jaxws.dynamics.bounds import (
    error_bound,
    gaussian_fourth_moment,
    largest_contracting_rate,
    largest_noise_limited_rate,
)
from jaxws.dynamics.circuit import (
    Circuit,
    CircuitState,
    at_rest,
    euler_step,
    present,
    steady_state,
)
from jaxws.dynamics.descent import Descent, begin, descend, momentum_sgd
from jaxws.dynamics.fixed_points import (
    fixed_point,
    fixed_point_mean,
    gaussian_second_moment,
    isotropic_fixed_point,
    neg_log_snr_min,
    noisy_fixed_point,
    second_moment,
)
from jaxws.dynamics.phase import Rule, variance_ratio
from jaxws.dynamics.projected import Maps, present_projected, presentation_maps
from jaxws.dynamics.rules import hebbian_update, objective
from jaxws.dynamics.schedules import (
    Plasticity,
    circuit_learning_rates,
    plastic_steps,
    rule_learning_rate,
)
from jaxws.dynamics.sleep import check_sleep_phase, sleep_phase
from jaxws.dynamics.snr import log_mean_inverse_snr, neg_log_snr, pool_snr

__all__ = [
    "Circuit",
    "CircuitState",
    "Descent",
    "Maps",
    "Plasticity",
    "Rule",
    "at_rest",
    "begin",
    "check_sleep_phase",
    "circuit_learning_rates",
    "descend",
    "error_bound",
    "euler_step",
    "fixed_point",
    "fixed_point_mean",
    "gaussian_fourth_moment",
    "gaussian_second_moment",
    "hebbian_update",
    "isotropic_fixed_point",
    "largest_contracting_rate",
    "largest_noise_limited_rate",
    "log_mean_inverse_snr",
    "momentum_sgd",
    "neg_log_snr",
    "neg_log_snr_min",
    "noisy_fixed_point",
    "objective",
    "plastic_steps",
    "pool_snr",
    "present",
    "present_projected",
    "presentation_maps",
    "rule_learning_rate",
    "second_moment",
    "sleep_phase",
    "steady_state",
    "variance_ratio",
]
