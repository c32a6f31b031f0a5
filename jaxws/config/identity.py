"""Configurations as JSON: what makes a run the one that it is, and how two runs differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxws.config.fields import base_config, flat_fields, unknown_field
from jaxws.config.registry import REGISTRIES, is_outside
from jaxws.system.json_text import parse_json

# Fields that change how far or where a run goes, when it is scored, what it keeps, and what it does
# once it has diverged, but no weight it computes before that: a run may be resumed with other
# values of them. Its best checkpoint is the best of those that were scored, whatever they say.
# What its data are is told by their checksums, and not by where they lie.
FREE_FIELDS = (
    *("evaluate_every", "max_steps", "tensorboard", "profile", "compilation_cache"),
    *("mesh.data", "mesh.h", "mesh.w"),
    *("checkpoint.keep", "checkpoint.keep_best", "checkpoint.every_steps"),
    *("divergence.action", "divergence.max_rollbacks", "divergence.max_skipped"),
    *("data.path", "data.data_dir", "data.prefetch", "data.threads", "data.workers"),
)
# A batch of several views of each image was once given by its images. Runs of several say how it is
# counted, so that those which do not are known to be older; older versions refuse these as others.
_COUNTED, _VIEWS = "batch_size counts", "views"
# Facts about data: a checksum of all that is in the images' files, which some data have, and one of
# notes about them, which hold the name of their folder.
CONTENT, NOTES = "content_sha256", "records_crc32"


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
    counted = {_COUNTED: _VIEWS} if config.data.n_reps > 1 else {}
    parts = {"config": dict(flat_fields(config)) | counted, "dataset": dict(dataset)}
    return json.dumps(parts, indent=2, sort_keys=True) + "\n"


def from_json(text: str) -> tuple[ConfigDict, dict[str, Any]]:
    """The inverse of :func:`to_json`; fields that an older version did not have get their defaults.

    Where an older version wrote how many images a batch has, ``batch_size`` is its number of views.

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
    try:
        parts = parse_json(text)
        fields, dataset = _in_views(parts["config"]), dict(parts["dataset"])
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
      ValueError: ``saved`` is not what :func:`to_json` writes.

    Example:
      >>> config = base_config()
      >>> saved = to_json(config, {})
      >>> config.seed = 1
      >>> differences(to_json(config, {}), saved)
      ['config.seed: 0 there, 1 here']
    """
    (there, facts_there), (here, facts_here) = parts_of(saved), parts_of(this)
    kept = ({k: v for k, v in run.items() if k not in FREE_FIELDS} for run in (there, here))
    changed = [f"config.{line}" for line in changes(*kept)]
    is_other = there.get("batch_size") != here.get("batch_size")
    if is_other and _counts_images(parse_json(saved).get("config", {})):
        n_reps, views = there["data.n_reps"], there["batch_size"]
        changed += [
            f"an older version wrote it, where batch_size counted images and not their {n_reps}"
            f" views: --config.batch_size={views} goes on with it"
        ]
    facts = comparable_facts(facts_there, facts_here)
    if other := [f"dataset.{line}" for line in changes(*facts)]:
        read = [place_of_data(run) for run in (there, here)]
        changed += [*other, f"the data: {read[0]} there, {read[1]} here"]
    return changed


def parts_of(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configuration and facts about the data."""
    parts = parse_json(text)
    if not isinstance(parts, dict):
        raise ValueError("no configuration")
    config, dataset = parts.get("config", {}), parts.get("dataset", {})
    if not isinstance(config, dict) or not isinstance(dataset, dict):
        raise ValueError("no configuration and facts about data")
    return _in_views(config), dataset


def _in_views(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as they are meant today: of a run that says nothing else, batches counted images."""
    views = {}
    if _counts_images(fields):
        views = {"batch_size": fields["batch_size"] * fields["data.n_reps"]}
    return {key: value for key, value in fields.items() if key != _COUNTED} | views


def _counts_images(fields: Mapping[str, Any]) -> bool:
    several = type(fields.get("data.n_reps")) is int and fields["data.n_reps"] > 1
    return several and type(fields.get("batch_size")) is int and _COUNTED not in fields


def comparable_facts(
    there: Mapping[str, Any], here: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What of the facts about two runs' data must be the same.

    Args:
      there: facts about the data of one run.
      here: of another one.

    Returns:
      Both, without notes about files whose content is known, and without what one of them did not
      note as an older version wrote it.

    Example:
      >>> old = {"classes": 2, "records_crc32": 1}
      >>> comparable_facts(old, old | {"content_sha256": "a"})
      ({'classes': 2, 'records_crc32': 1}, {'classes': 2, 'records_crc32': 1})
      >>> moved = {"classes": 2, "records_crc32": 3, "content_sha256": "a"}
      >>> comparable_facts(old | {"content_sha256": "a"}, moved)[0]
      {'classes': 2, 'content_sha256': 'a'}
    """
    left_out = NOTES if CONTENT in there and CONTENT in here else CONTENT
    first, second = (
        {key: value for key, value in facts.items() if key != left_out} for facts in (there, here)
    )
    return first, second


def place_of_data(fields: Mapping[str, Any]) -> str:
    """Where the images of a run come from, for people.

    Args:
      fields: the configuration by dotted names, as in :func:`to_json`.

    Returns:
      A phrase.

    Example:
      >>> place_of_data({"data.name": "cifar10", "data.path": "/pictures", "data.data_dir": None})
      "folder '/pictures'"
      >>> place_of_data({"data.name": "digits", "data.path": None, "data.data_dir": "/tfds"})
      "'digits' in '/tfds'"
    """
    name, path, root = (fields.get(f"data.{key}") for key in ("name", "path", "data_dir"))
    if path is not None:
        return f"folder {path!r}"
    return f"{name!r}" + (f" in {root!r}" if root is not None else "")


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
