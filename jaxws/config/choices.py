"""The values of fields that are one of a few names, read by all who check or take such a name.

They stand here, not beside the functions that take them, because a wrong flag is told before JAX is
imported: this module imports nothing, and every room above config may import it. Only
:mod:`jaxws.core`, which does without configurations, has tuples of its own, ``POOLS`` in pools.py
and ``ARRANGEMENTS`` in topography.py; a test holds them together.
"""

from __future__ import annotations

from collections.abc import Sequence

CONNECTIVITIES = ("local", "conv")
DTYPES = ("float32", "bfloat16", "float16")  # of activations
OPTIMIZERS = ("adamw", "sgd")
POOLS = ("grid", "global")
ARRANGEMENTS = ("positions", "sheet")  # of neurons, whose neighbours are alike
DALE_SIGNS = ("seed", "initial")
BORDERS = ("in", "out")
DIVERGENCE_ACTIONS = ("stop", "skip", "rollback")
ON_CORRUPT = ("error", "skip")
DECODERS = ("pil", "simplejpeg")
SPLITS = ("final", "tuning")
MEAN_STD = ("train", "imagenet")


def check_one_of(name: str, value: object, choices: Sequence[str]) -> None:
    """Checks a value that is one of a few names.

    Args:
      name: of the argument or field, for the error.
      value: that was given.
      choices: the values that there are.

    Raises:
      ValueError: it is none of them.

    Example:
      >>> check_one_of("borders", "inside", BORDERS)
      Traceback (most recent call last):
      ValueError: borders='inside': expected one of 'in', 'out'.
    """
    if value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, choices))}.")
