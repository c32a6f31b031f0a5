"""Configurations as JSON: what makes a run the one that it is, and how two runs differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxws.config.fields import base_config, flat_fields, unknown_field
from jaxws.config.registry import REGISTRIES, is_outside

# Fields that change how far or where a run goes, what it keeps, and what it does once it has
# diverged, but no number it computes before that: a run may be resumed with other values of them.
FREE_FIELDS = (
    *("max_steps", "tensorboard", "profile", "compilation_cache"),
    *("checkpoint.keep", "checkpoint.keep_best", "checkpoint.every_steps"),
    *("divergence.action", "divergence.max_rollbacks", "divergence.max_skipped"),
    *("data.data_dir", "data.prefetch", "data.threads", "data.workers"),
)


def to_json(config: ConfigDict, dataset: Mapping[str, Any]) -> str:
    """Writes what makes a run the one that it is as JSON, in a fixed order.

    Args:
      config: a configuration.
      dataset: facts that tell its data from others; such as its size.

    Returns:
      Text that :func:`differences` reads.

    Example:
      >>> json.loads(to_json(base_config(), {"classes": 10}))["dataset"]
      {'classes': 10}
    """
    parts = {"config": dict(flat_fields(config)), "dataset": dict(dataset)}
    return json.dumps(parts, indent=2, sort_keys=True) + "\n"


def from_json(text: str) -> tuple[ConfigDict, dict[str, Any]]:
    """The inverse of :func:`to_json`; fields that an older version did not have get their defaults.

    Args:
      text: what it wrote.

    Returns:
      The configuration and the facts about the data.

    Raises:
      ValueError: the text is something else, or names fields that do not exist.

    Example:
      >>> config, dataset = from_json(to_json(base_config(), {"classes": 10}))
      >>> config.model.depth, dataset
      (20, {'classes': 10})
    """
    parts = json.loads(text)
    try:
        fields, dataset = parts["config"], dict(parts["dataset"])
        config = base_config()
        known = dict(flat_fields(config))
        # Fields of a network or rule from outside are taken as they are, without importing it.
        extended = [r.group for r in REGISTRIES if is_outside(fields.get(f"{r.group}.{r.leaf}"))]
        for key, value in fields.items():
            if key not in known and key.partition(".")[0] not in extended:
                raise ValueError(unknown_field(key, known))
            kept = tuple(value) if isinstance(value, list) else value
            config.update_from_flattened_dict({key: kept})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is not the JSON that jaxws writes ({error})") from error
    return config, dataset


def differences(this: str, saved: str) -> list[str]:
    """Compares two runs, leaving out ``FREE_FIELDS``.

    Args:
      this: :func:`to_json` of this run.
      saved: what :func:`to_json` wrote for another one.

    Returns:
      One line per field that differs.

    Raises:
      ValueError: ``saved`` is not JSON.

    Example:
      >>> config = base_config()
      >>> saved = to_json(config, {})
      >>> config.seed = 1
      >>> differences(to_json(config, {}), saved)
      ['config.seed: 0 there, 1 here']
    """
    there, here = (
        {
            f"{part}.{key}": value
            for part, fields in json.loads(text).items()
            for key, value in fields.items()
        }
        for text in (saved, this)
    )
    free = {f"config.{key}" for key in FREE_FIELDS}
    kept = ({k: v for k, v in fields.items() if k not in free} for fields in (there, here))
    return changes(*kept)


def changes(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Compares two dicts.

    Args:
      there: what was saved.
      here: what is.

    Returns:
      One line per key that differs, sorted; what is missing is None.

    Example:
      >>> changes({"jax": "0.9", "flax": "1"}, {"jax": "0.10", "flax": "1"})
      ["jax: '0.9' there, '0.10' here"]
    """
    return [
        f"{key}: {there.get(key)!r} there, {here.get(key)!r} here"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key)
    ]
