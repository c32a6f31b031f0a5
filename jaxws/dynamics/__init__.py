"""Dynamic weight sharing: what lateral connections and Hebbian plasticity make of weights."""

from jaxws.dynamics.phase import Rule, variance_ratio
from jaxws.dynamics.sleep import check_sleep_phase, sleep_phase

__all__ = ["Rule", "check_sleep_phase", "sleep_phase", "variance_ratio"]
