"""A trained network, ready to be called: published, exported, or of a run's newest checkpoint."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxws.config.identity import from_json
from jaxws.config.registry import add_own_fields
from jaxws.config.trust import check_trusted
from jaxws.core.named_leaves import named_leaves
from jaxws.models.build import build_model, variable_shapes
from jaxws.models.exported import WEIGHTS, description_of, is_exported, to_weights
from jaxws.models.published.names import find_published
from jaxws.models.torch_weights.files import read_weights_file
from jaxws.system.local_path import local_path

_FILES = (".safetensors", ".npz")
_MOST_LISTED = 4
# Stands above this room, and needs Orbax: imported for those who give a directory.
_RUN_READER = "jaxws.checkpointing.described"


class Loaded(NamedTuple):
    """A trained network.

    Attributes:
      model: the network.
      variables: ``params`` and ``batch_stats``, NumPy arrays, float32.
      config: that it was trained with.
      info: what is known of it: ``name`` if it is published, else None; ``path``; ``step``,
        ``metrics`` of the epoch that ended there (``test_top1`` and others), empty if none did;
        ``data``: shape of an image, normalisation, names of the classes; ``dataset``, ``versions``.

    Example:
      >>> info = {"data": {"class_names": ["cat", "dog"]}}
      >>> Loaded(nn.Dense(2), {}, ConfigDict(), info).class_names
      ('cat', 'dog')
    """

    model: nn.Module
    variables: dict[str, Any]
    config: ConfigDict
    info: dict[str, Any]

    @property
    def class_names(self) -> tuple[str, ...]:
        """What each output stands for."""
        return tuple(self.info["data"]["class_names"])

    def normalise(self, images: Any) -> jax.Array:
        """Pixels as the network has seen them in training.

        Args:
          images: uint8 (n, H, W, c), of the shape that the network was trained on.

        Returns:
          (n, H, W, c), for ``model.apply(variables, images, train=False)``.

        Raises:
          ValueError: they are of another shape or dtype.
        """
        from jaxws.data.batch import normalise  # noqa: PLC0415 - brings data sets, seconds to import

        data = self.info["data"]
        shape, dtype = tuple(np.shape(images)), np.asarray(images).dtype
        expected = tuple(data["image_shape"])
        if dtype != np.uint8 or len(shape) != 4 or shape[1:] != expected:
            raise ValueError(
                f"images are {dtype} {shape}: expected uint8 (n, {', '.join(map(str, expected))}),"
                " pixels from 0 to 255."
            )
        dtype = jnp.dtype(self.config.model.dtype)
        return normalise(jnp.asarray(images), None, None, data["mean"], data["std"], dtype)


def load(name_or_path: str | os.PathLike[str], trust: Collection[str] = ()) -> Loaded:
    """Loads a trained network.

    Args:
      name_or_path: a published network, such as ``'small/lc-ws1'``, see
        :func:`jaxws.models.published.names.find_published`; a file that ``python -m jaxws export``
        wrote; or the directory of a run, for its newest checkpoint. What lies at the path goes
        before a name.
      trust: modules that may be imported for a network from outside the library.

    Returns:
      The network.

    Raises:
      ValueError: there is no such network, file or run; it is damaged, or no file of
        ``python -m jaxws export``; its weights are not those of its network; it names code that is
        not trusted.

    Example:
      >>> load("no_such.safetensors")
      Traceback (most recent call last):
      ValueError: no_such.safetensors cannot be read: No such file or directory.
    """
    path, name = local_path(name_or_path), None
    if not path.exists() and path.suffix.lower() not in _FILES:
        name, path = find_published(os.fspath(name_or_path))
    if path.is_dir():
        weights, description = importlib.import_module(_RUN_READER).read_described(path, trust)
    else:
        weights, description = _read(path)
    try:
        config = from_json(json.dumps({key: description[key] for key in ("config", "dataset")}))[0]
        data = description["data"]
        shape, classes = _three(data["image_shape"]), len(data["class_names"])
        facts = {"step": int(description["step"]), "metrics": dict(description["metrics"] or {})}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not say what its network is ({type(error).__name__}: {error}): expected"
            " what python -m jaxws export makes of a run with its provenance.json."
        ) from error
    check_trusted(config, trust, str(path))
    add_own_fields(config)
    model = build_model(config.model, classes)
    _check(weights, variable_shapes(model, shape), path)
    info = {**description, **facts, "name": name, "path": str(path)}
    return Loaded(model, {key: tree for key, tree in weights.items() if tree}, config, info)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    arrays = read_weights_file(path)
    if not is_exported(arrays):
        raise ValueError(
            f"{path} has no weights of jaxws, but {_few(map(str, arrays))}: expected a file of"
            " python -m jaxws export; jaxws.models.from_torch_state_dict reads those of PyTorch."
        )
    try:
        return to_weights(arrays), description_of(arrays)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error


def _three(shape: Any) -> tuple[int, int, int]:
    height, width, channels = map(int, shape)
    return height, width, channels


def _check(weights: Mapping[str, Any], shapes: Mapping[str, Any], path: Path) -> None:
    """Compares weights with what the network has."""
    wrong = []
    for key in WEIGHTS:
        there, here = named_leaves(weights[key]), named_leaves(shapes.get(key, {}))
        for name in sorted(there.keys() | here.keys()):
            ours = here[name].shape if name in here else "none"
            theirs = np.shape(there[name]) if name in there else "none"
            if ours != theirs:
                wrong.append(f"{key}/{name}: {theirs} there, {ours} here")
            elif not np.isfinite(there[name]).all():
                wrong.append(f"{key}/{name}: numbers that are not finite")
    if wrong:
        raise ValueError(f"{path} has not the weights of its network: {_few(wrong)}.")


def _few(texts: Any) -> str:
    listed = list(texts)
    more = f" and {len(listed) - _MOST_LISTED} more" if len(listed) > _MOST_LISTED else ""
    return "; ".join(listed[:_MOST_LISTED]) + more
