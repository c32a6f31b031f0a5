"""Looking at networks: activations, filters over the visual field, orientation tuning, RSA."""

from jaxws.analysis.brain_score import BrainScoreNetwork, brain_score
from jaxws.analysis.filters import position_similarity, similarity_by_distance
from jaxws.analysis.gratings import Gratings, grating_responses, orientation_tuning
from jaxws.analysis.layer_outputs import activations, layer_names
from jaxws.analysis.rsa import rdm, rdm_similarity
from jaxws.analysis.untrained import untrained

__all__ = [
    "BrainScoreNetwork",
    "Gratings",
    "activations",
    "brain_score",
    "grating_responses",
    "layer_names",
    "orientation_tuning",
    "position_similarity",
    "rdm",
    "rdm_similarity",
    "similarity_by_distance",
    "untrained",
]
