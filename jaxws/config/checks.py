"""What a configuration may be: checked before anything is read or written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxws.config import choices
from jaxws.config.fields import base_config, flat_fields, unknown_field
from jaxws.config.numbers import check_epochs, check_kind, check_ranges, field_kinds, multiples_near
from jaxws.config.registry import REGISTRIES, own_fields
from jaxws.system.local_path import is_bucket, local_path, parse_url

_CHOICES = {
    "model.connectivity": choices.CONNECTIVITIES,
    "model.dtype": choices.DTYPES,
    "optimizer.name": choices.OPTIMIZERS,
    "sharing.pools": choices.POOLS,
    "sharing.borders": choices.BORDERS,
    "divergence.action": choices.DIVERGENCE_ACTIONS,
    "plasticity.dale.signs": choices.DALE_SIGNS,
    "topography.arrangement": choices.ARRANGEMENTS,
    "data.on_corrupt": choices.ON_CORRUPT,
    "data.decoder": choices.DECODERS,
    "data.split": choices.SPLITS,
    "data.mean_std": choices.MEAN_STD,
}

_PATTERNS = (
    *("optimizer.freeze", "optimizer.decay_mask", "model.init_fresh"),
    *("plasticity.dale.leaves", "plasticity.dale.nonnegative"),
)


def check_config(config: ConfigDict) -> None:
    """Checks a configuration before anything is read or written.

    Args:
      config: what a file in ``configs/`` and the command line made.

    Raises:
      ValueError: an unknown or missing field, or one with an impossible value.

    Example:
      >>> config = base_config()
      >>> config.model.dtype = "float31"
      >>> check_config(config)
      Traceback (most recent call last):
      ValueError: config.model.dtype='float31': expected one of 'float32', 'bfloat16', 'float16'.
    """
    given, known = dict(flat_fields(config)), dict(flat_fields(base_config()))
    known |= dict(flat_fields(own_fields(config)))
    for key in given:
        if key not in known:
            raise ValueError(unknown_field(key, known))
    for key in known:
        if key not in given:
            raise ValueError(
                f"config.{key} is missing: start from jaxws.config.fields.base_config();"
                " registry.add_own_fields(config) adds fields of a network or rule of your own."
            )
    for key, kind in field_kinds(base_config()):
        check_kind(key, given[key], kind, optional=known[key] is None)
    for registry in REGISTRIES:
        registry.check(given[f"{registry.group}.{registry.leaf}"])
    for key, names in _CHOICES.items():
        if given[key] is None and known[key] is None:
            continue
        choices.check_one_of(f"config.{key}", given[key], names)
    check_ranges(given)
    if given["profile"] is not None:
        parse_steps(given["profile"])
    _check_paths(given)
    _check_batch(given)
    check_epochs(tuple(given["optimizer.drop_epochs"] or ()))
    _check_sharing(given)
    _check_patterns(given)
    _check_plasticity(given)


def parse_steps(text: str) -> range:
    """Reads which steps to trace.

    Args:
      text: ``'a:b'``, steps a to b - 1, counted from 0 as in ``python -m jaxws preview --step``.

    Returns:
      The steps.

    Raises:
      ValueError: it is not two whole numbers, or no step.

    Example:
      >>> parse_steps("10:12")
      range(10, 12)
      >>> parse_steps("12")
      Traceback (most recent call last):
      ValueError: config.profile='12': expected a:b, such as 10:15 for steps 10 to 14 (from 0).
    """
    begin, _, end = text.partition(":")
    if not (begin.isdecimal() and end.isdecimal()) or int(begin) >= int(end):
        raise ValueError(
            f"config.profile={text!r}: expected a:b, such as 10:15 for steps 10 to 14 (from 0)."
        )
    return range(int(begin), int(end))


def _check_paths(given: Mapping[str, Any]) -> None:
    for key in ("data.path", "data.data_dir", "model.init_from"):
        if key == "data.data_dir" and _may_be_in_a_bucket(given):
            parse_url(given[key], f"config.{key}")
        elif given[key] is not None:
            local_path(given[key], f"config.{key}")


def _may_be_in_a_bucket(given: Mapping[str, Any]) -> bool:
    """Whether the data lie prepared in one; folders and the digits are prepared here."""
    root = given["data.data_dir"]
    is_named = given["data.path"] is None and given["data.name"] not in ("digits", "folder")
    return root is not None and is_bucket(root) and is_named


def _check_sharing(given: Mapping[str, Any]) -> None:
    if given["model.connectivity"] == "conv" and given["sharing.every"]:
        raise ValueError(
            f"config.sharing.every={given['sharing.every']} with config.model.connectivity='conv':"
            " its layers share weights already and have nothing to share; set sharing.every=0 or"
            " connectivity='local'."
        )
    mode = given["sharing.mode"]
    if mode != "instant" and not given["sharing.every"]:
        raise ValueError(
            f"config.sharing.mode={mode!r} with config.sharing.every=0, which is never: set"
            " config.sharing.every=1, or another n of ws(n)."
        )


def _check_batch(given: Mapping[str, Any]) -> None:
    views, n_reps, parts = given["batch_size"], given["data.n_reps"], given["accumulate"]
    if views % n_reps:
        raise ValueError(
            f"config.batch_size={views} counts views, and cannot be divided into"
            f" config.data.n_reps={n_reps} of each image: {multiples_near(views, n_reps)} can."
        )
    if views % parts:
        raise ValueError(
            f"config.accumulate={parts}: expected a divisor of config.batch_size={views}."
        )


def _check_patterns(given: Mapping[str, Any]) -> None:
    """Whether there are such leaves only the network can tell."""
    for key in _PATTERNS:
        value = given.get(key)
        if value is not None and not all(isinstance(each, str) and each for each in value):
            raise ValueError(
                f"config.{key}={tuple(value)!r}: expected patterns of leaves in quotes, such as"
                " 'conv1/*'."
            )
    if given.get("model.init_fresh") and not given.get("model.init_from"):
        raise ValueError(
            f"config.model.init_fresh={tuple(given['model.init_fresh'])!r} without"
            " config.model.init_from: all weights are fresh then; give the weights to start from."
        )


def _check_plasticity(given: Mapping[str, Any]) -> None:
    """Constraints that would do nothing."""
    signs = given["plasticity.dale.signs"]
    for leaf in ("excitatory", "leaves", "nonnegative"):
        key = f"plasticity.dale.{leaf}"
        if given[key] is not None and signs is None:
            raise ValueError(
                f"config.{key}={given[key]!r} without config.plasticity.dale.signs, so that weights"
                " may have any sign: set that to 'seed' or 'initial'."
            )
    if signs == "initial" and given["plasticity.dale.excitatory"] is not None:
        raise ValueError(
            f"config.plasticity.dale.excitatory={given['plasticity.dale.excitatory']!r} with"
            " config.plasticity.dale.signs='initial', where weights say which channels are"
            " excitatory: set signs='seed', or leave it unset."
        )
    if given["topography.arrangement"] is not None and not given["topography.smoothness"]:
        raise ValueError(
            f"config.topography.arrangement={given['topography.arrangement']!r} without"
            " config.topography.smoothness: give the loss a weight."
        )
    for leaf in ("smoothness", "similarity"):
        key, weight = f"topography.{leaf}", given[f"topography.{leaf}"]
        if weight and given["model.connectivity"] == "conv":
            raise ValueError(
                f"config.{key}={weight!r} with config.model.connectivity='conv': its layers have"
                " one filter for all positions; set connectivity='local'."
            )
    ends_shared = given["sharing.every"] == 1 and given["sharing.mode"] == "instant"
    if given["topography.similarity"] and ends_shared:
        raise ValueError(
            f"config.topography.similarity={given['topography.similarity']!r} with"
            " config.sharing.every=1: every step ends with equal weights, whose loss is 0; set"
            " config.sharing.every=0, or a larger n of ws(n)."
        )
