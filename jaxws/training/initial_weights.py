"""Weights that a run starts from: ``config.model.init_from``, a run, a checkpoint or a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from jaxws.checkpointing import checksums
from jaxws.checkpointing.directory import recorded_latest, steps_in, verify
from jaxws.checkpointing.weights import read_weights
from jaxws.core.leaf_patterns import matches
from jaxws.models.build import variable_shapes
from jaxws.models.exported import WEIGHTS, is_exported, to_weights
from jaxws.models.torch_weights.files import read_weights_file
from jaxws.models.torch_weights.names import HEAD
from jaxws.records import provenance_file
from jaxws.training.fit_weights import Fitted, fit_weights

_FIELD = "config.model.init_from"
_FILES = (".npz", ".safetensors", ".pth", ".pt")


class InitialWeights(NamedTuple):
    """Weights of the run's own network, and where they come from.

    Attributes:
      variables: ``params`` and ``batch_stats``, flat, by name; NumPy arrays. What is not in them is
        drawn anew.
      facts: for JSON: ``path``, ``what`` was read of it, ``sha256``, names of ``fresh`` leaves.
      line: what was read, for people.
    """

    variables: dict[str, dict[str, np.ndarray]]
    facts: dict[str, Any]
    line: str


def initial_weights(
    config: ConfigDict, workdir: str | Path, model: nn.Module, image_shape: tuple[int, int, int]
) -> InitialWeights | None:
    """Reads the weights that a run starts from, unless it is to go on from a checkpoint of its own.

    Args:
      config: of the run.
      workdir: its directory, which may be missing.
      model: its network.
      image_shape: (H, W, c) of the network's input.

    Returns:
      The weights; None if none are given, or if the run has a checkpoint, which holds all of them:
      what they came from may be gone then.

    Raises:
      ValueError: they cannot be read, are not those of this network, or have changed since the run
        began.
    """
    given = config.model.init_from
    checkpoints = Path(workdir).expanduser() / "checkpoints"
    if given is None or steps_in(checkpoints) or recorded_latest(checkpoints) is not None:
        return None
    shapes = variable_shapes(model, image_shape)
    fresh = tuple(config.model.init_fresh or ())
    path = Path(given).expanduser().absolute()
    weights, what, digest = _read(path, model, image_shape, fresh)
    try:
        fitted = fit_weights(weights, {name: shapes.get(name, {}) for name in WEIGHTS}, fresh)
    except ValueError as error:
        raise ValueError(f"{_FIELD}={given!r}: {error}") from error
    facts = {"path": str(path), "what": what, "sha256": digest, "fresh": fitted.fresh}
    _check_unchanged(Path(workdir).expanduser(), given, digest)
    return InitialWeights(fitted.variables, facts, _line(what, fitted))


def _read(
    path: Path, model: nn.Module, image_shape: tuple[int, int, int], fresh: tuple[str, ...]
) -> tuple[Mapping[str, Any], str, str]:
    """Weights, what they are of, and a digest."""
    if path.is_dir():
        directory = _checkpoint(path)
        digest = _digest(directory / checksums.NAME)  # of the digests of all files
        return read_weights(directory), f"step {directory.name} of {path}", digest
    if path.suffix.lower() not in _FILES or not path.is_file():
        what = "it is no file of weights" if path.is_file() else "there is no such file"
        raise ValueError(
            f"{_FIELD}={str(path)!r}: {what}; expected the directory of a run or of a checkpoint,"
            f" or a file that ends in {', '.join(_FILES)}."
        )
    digest = _digest(path)
    try:
        arrays = read_weights_file(path)
        if is_exported(arrays):
            return to_weights(arrays), str(path), digest
    except ValueError as error:
        raise ValueError(f"{_FIELD}: {path} cannot be read: {error}") from error
    return _from_torch(arrays, path, model, image_shape, fresh), str(path), digest


def _checkpoint(path: Path) -> Path:
    """The directory of a checkpoint: itself, or the newest one of a run."""
    if (path / checksums.NAME).is_file():
        found, others = path, ""
    else:
        steps = steps_in(path / "checkpoints")
        if not steps:
            is_run = (path / "config.json").is_file()
            what = "this run has no checkpoint yet" if is_run else "it is no run or checkpoint"
            raise ValueError(f"{_FIELD}={str(path)!r}: {what}.")
        found = path / "checkpoints" / str(steps[-1])
        others = f"; there are those of steps {', '.join(map(str, steps))}: give the directory of"
        others += " one of them"
    if wrong := verify(found):
        raise ValueError(f"{_FIELD}: checkpoint {found} is damaged: {wrong}{others}.")
    return found


def _from_torch(
    state_dict: Mapping[str, Any],
    path: Path,
    model: nn.Module,
    image_shape: tuple[int, int, int],
    fresh: tuple[str, ...],
) -> Mapping[str, Any]:
    from jaxws.models import from_torch_state_dict  # noqa: PLC0415 - few runs need it

    # A head that is drawn anew may be of other classes in the file, which are not read then.
    is_fresh = all(matches(f"{HEAD}/{leaf}", fresh) for leaf in ("kernel", "bias"))
    try:
        variables: Mapping[str, Any] = from_torch_state_dict(
            model,  # type: ignore[arg-type]  # another network is a ValueError
            state_dict,
            image_shape=image_shape,
            fresh_head=jax.random.key(0) if is_fresh else None,
        )
    except ValueError as error:
        raise ValueError(f"{_FIELD}={str(path)!r}: {error}") from error
    return variables


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _check_unchanged(workdir: Path, given: str, digest: str) -> None:
    """A run that was stopped before its first checkpoint must not begin with other weights."""
    before = provenance_file.read(workdir).get("init_from") or {}
    if before.get("sha256", digest) != digest:
        raise ValueError(
            f"{_FIELD}={given!r}: these are no longer the weights that the run in {workdir} began"
            f" with (sha256 {before['sha256'][:12]}... then, {digest[:12]}... now), and it has no"
            " checkpoint. Nothing was changed. Give another directory by --workdir."
        )


def _line(what: str, fitted: Fitted) -> str:
    number = sum(len(each) for each in fitted.variables.values())
    parts = [f"weights: {number} arrays of {what}"]
    if fitted.repeated:
        parts.append(f"filters of {fitted.repeated} convolutions repeated at every position")
    if fitted.tied:
        parts.append(f"{fitted.tied} arrays that are equal at all positions made convolutions")
    if fitted.fresh:
        parts.append(f"fresh: {', '.join(fitted.fresh)}")
    if fitted.unused:
        parts.append(f"not used: {', '.join(fitted.unused)}")
    return "; ".join(parts)
