"""What kinds of values fields take, and which numbers: told by the field's name, before all else.

Numbers end in arrays of int32 and float32, so that what these cannot hold is refused as well.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

MOST_WHOLE = 2**31 - 1  # of steps, sizes and counts
_MOST_FLOAT = 3.4028234663852886e38  # of a float32
# Seeds that differ give other draws: those beyond 32 bits would not.
_SEEDS = (-(2**31), 2**32 - 1)

_MINIMA = {
    "epochs": 1,
    "batch_size": 1,
    "eval_batch_size": 1,
    "evaluate_every": 1,
    "max_steps": 1,
    "accumulate": 1,
    "mesh.data": 1,
    "mesh.h": 1,
    "mesh.w": 1,
    "model.depth": 1,
    "model.width": 1,
    "model.block_size": 1,
    "model.patch_size": 1,
    "model.heads": 1,
    "model.mlp_ratio": 1,
    "sharing.every": 0,
    "sharing.sleep.iterations": 1,
    "sharing.sleep.patterns": 1,
    "sharing.sleep.gamma": 0,
    "sharing.online.patterns": 1,
    "optimizer.learning_rate": 0,
    "optimizer.weight_decay": 0,
    "optimizer.drop_factor": 1,
    "optimizer.momentum": 0,
    "topography.smoothness": 0,
    "topography.similarity": 0,
    "data.pad": 0,
    "data.image_size": 1,
    "data.crop_size": 1,
    "data.n_reps": 1,
    "data.prefetch": 1,
    "data.threads": 1,
    "data.workers": 0,
    "data.split_seed": 0,
    "log_every": 1,
    "checkpoint.keep": 1,
    "checkpoint.every_steps": 1,
    "divergence.max_rollbacks": 1,
    "divergence.max_skipped": 1,
}
_ABOVE_ZERO = ("sharing.sleep.rate", "sharing.online.rate")
_PARTS = {
    "data.train_fraction": "a part of the training images",
    "divergence.rate_factor": "a factor",
    "plasticity.dale.excitatory": "a part of the channels",
}
KINDS_IN_WORDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "values with commas between them",
}


def field_kinds(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, type]]:
    """Lists the kinds of all fields, also of those that are unset.

    Args:
      config: a configuration.
      prefix: put in front of every name.

    Yields:
      Pairs of dotted name and type.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> dict(field_kinds(base_config()))["data.crop_size"]
      <class 'int'>
    """
    for key in config:
        if isinstance(config[key], ConfigDict):
            yield from field_kinds(config[key], f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", config.get_type(key)


def check_kind(key: str, value: Any, kind: type, *, optional: bool = False) -> None:
    """Checks that a value is of the kind of its field, and a number one that devices can hold.

    Args:
      key: dotted name of the field.
      value: of the field.
      kind: type of the field's default.
      optional: whether None will do, which is unset.

    Raises:
      ValueError: it is another kind, such as True for a number, or not finite, or too large.

    Example:
      >>> check_kind("epochs", True, int)
      Traceback (most recent call last):
      ValueError: config.epochs=True: expected a whole number.
    """
    if kind not in KINDS_IN_WORDS or (optional and value is None):
        return
    given = f"config.{key}={value!r}"
    fits = {
        bool: isinstance(value, bool),
        int: isinstance(value, numbers.Integral) and not isinstance(value, bool),
        float: isinstance(value, numbers.Real) and not isinstance(value, bool),
        str: isinstance(value, str),
        tuple: isinstance(value, tuple | list),
    }
    if not fits[kind]:
        raise ValueError(f"{given}: expected {KINDS_IN_WORDS[kind]}.")
    if kind is float and not (math.isfinite(value) and abs(value) <= _MOST_FLOAT):
        raise ValueError(f"{given}: expected a finite number, at most 3.4e38 (float32).")
    if kind is int:
        least, most = _SEEDS if key == "seed" else (-MOST_WHOLE, MOST_WHOLE)
        if not least <= value <= most:
            end = f"from {least} to {most}" if key == "seed" else f"at most {most}"
            raise ValueError(f"{given}: expected a whole number {end}.")


def check_ranges(given: Mapping[str, Any]) -> None:
    """Checks the numbers of the library's own fields one by one.

    Args:
      given: values by dotted name; None is unset.

    Raises:
      ValueError: one of them is out of its field's range.

    Example:
      >>> check_ranges({"sharing.sleep.rate": 0.0})
      Traceback (most recent call last):
      ValueError: config.sharing.sleep.rate=0.0: expected a number above 0.
    """
    for key, value in given.items():
        if value is None:
            continue
        if key in _MINIMA and not value >= _MINIMA[key]:
            raise ValueError(f"config.{key}={value!r}: expected at least {_MINIMA[key]}.")
        if key in _ABOVE_ZERO and not value > 0:
            raise ValueError(f"config.{key}={value!r}: expected a number above 0.")
        if key in _PARTS and not 0 < value <= 1:
            raise ValueError(
                f"config.{key}={value!r}: expected {_PARTS[key]}, above 0 and at most 1."
            )
    if not given.get("optimizer.momentum", 0) < 1:
        raise ValueError(
            f"config.optimizer.momentum={given['optimizer.momentum']!r}: expected a number below 1."
        )


def multiples_near(value: int, unit: int) -> str:
    """The numbers to give in place of one that is no multiple of another.

    Args:
      value: what was given.
      unit: what should divide it.

    Returns:
      The next smaller and larger multiple above 0.

    Example:
      >>> multiples_near(512, 3), multiples_near(2, 3)
      ('510 and 513', '3')
    """
    below = value // unit * unit
    return " and ".join(str(near) for near in (below, below + unit) if near)


def check_epochs(given: tuple[Any, ...]) -> None:
    """Checks the epochs after which the learning rate drops.

    Args:
      given: ``config.optimizer.drop_epochs``.

    Raises:
      ValueError: they are no whole numbers that increase from 1 or more.

    Example:
      >>> check_epochs((100, 150))
    """
    whole = all(
        isinstance(epoch, int) and not isinstance(epoch, bool) and 1 <= epoch <= MOST_WHOLE
        for epoch in given
    )
    if not whole or sorted(set(given)) != list(given):
        raise ValueError(
            f"config.optimizer.drop_epochs={given}: expected increasing epoch numbers from 1,"
            " such as 100,150."
        )
