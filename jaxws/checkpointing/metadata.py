"""What a checkpoint says about itself, so that it can be understood without anything else.

It is one JSON object: the step, the run's configuration and data, versions and device, every array
of the state by name with dtype and shape, sums of the epoch in progress, and the history of the run
(records of kinds ``epoch`` and ``event``, as in metrics.jsonl).
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxws.config.identity import changes, differences
from jaxws.core.implementations.dispatch import default_name
from jaxws.core.islands.layout import AXES, mesh_sizes
from jaxws.core.local_kernels import LOCAL_KERNEL
from jaxws.core.named_leaves import named_leaves
from jaxws.data.host.workers import available_cores
from jaxws.parallel import processes
from jaxws.records.provenance import versions
from jaxws.records.record_format import check_history
from jaxws.system.atomic import write_atomically
from jaxws.system.json_text import parse_json

_FILE = Path("run") / "metadata"


def make_metadata(
    state: Any,
    *,
    identity: str = "{}",
    epoch: Mapping[str, float] | None = None,
    history: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Makes the metadata of a checkpoint.

    Args:
      state: a train state with a ``step``.
      identity: :func:`jaxws.config.identity.to_json` of the run.
      epoch: sums of the epoch in progress, of the run's training steps so far.
      history: records of the run so far.

    Returns:
      What can be written as JSON.
    """
    named = arrays(state)
    return {
        "step": int(state.step),
        "identity": json.loads(identity),
        "versions": bits_depend_on(named),
        "arrays": named,
        "epoch": dict(epoch or {}),
        "history": list(history),
    }


def bits_depend_on(names: Iterable[str]) -> dict[str, str]:
    """Versions, devices, processes, cores and kernels with which the next steps have the same bits.

    Devices are those of the mesh in context, over which sums are divided. On CPUs, how XLA divides
    them may depend on how many are visible, and on cores: so it was with JAX 0.10.2, and not with
    0.12.

    Args:
      names: of the state's arrays; without locally connected layers, there are no kernels.

    Returns:
      By name.

    Example:
      >>> sorted(bits_depend_on(["conv1/local_kernel"]).keys() - bits_depend_on([]).keys())
      ['local_conv']
      >>> bits_depend_on([])["mesh"]
      '1x1x1'
    """
    device = jax.devices()[0]
    sizes = mesh_sizes(jax.sharding.get_abstract_mesh())
    facts = {
        **_versions(),
        "device": device.device_kind,
        "devices": str(math.prod(sizes.values())),
        "mesh": "x".join(str(sizes.get(name, 1)) for name in AXES),
        "processes": str(processes.count()),
    }
    if device.platform == "cpu":
        facts["visible devices"] = str(jax.local_device_count())
        facts["cores"] = str(available_cores())
    if any(name.endswith(LOCAL_KERNEL) for name in names):
        facts["local_conv"] = default_name()
    return facts


_versions = functools.cache(versions)  # these are read from files


def arrays(state: Any) -> dict[str, str]:
    """Names of a state's arrays with dtypes and shapes.

    Args:
      state: a pytree of arrays or of their shapes.

    Returns:
      By name.

    Example:
      >>> import jax.numpy as jnp
      >>> arrays({"conv1": {"kernel": jnp.ones((3, 3))}})
      {'conv1/kernel': 'float32[3,3]'}
    """
    return {
        name: f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
        for name, leaf in named_leaves(state).items()
    }


def write_metadata(checkpoint: Path, metadata: Mapping[str, Any]) -> None:
    """Writes the metadata of a checkpoint.

    Args:
      checkpoint: its directory.
      metadata: of :func:`make_metadata`.

    Raises:
      OSError: they cannot be written.
    """
    file = checkpoint / _FILE
    file.parent.mkdir()
    write_atomically(file, json.dumps(metadata))


def read_metadata(checkpoint: Path) -> dict[str, Any]:
    """Reads the metadata of a checkpoint, without Orbax.

    Args:
      checkpoint: its directory.

    Returns:
      The metadata.

    Raises:
      ValueError: there are none, or they are not what :func:`make_metadata` makes.
    """
    try:
        return _checked(parse_json((checkpoint / _FILE).read_bytes()), checkpoint.name)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{checkpoint / _FILE} is not what jaxws writes ({error}). Nothing was changed."
        ) from error


def _checked(metadata: Any, step: str) -> dict[str, Any]:
    if not isinstance(metadata, dict):
        raise ValueError("it is no object")
    for name in ("identity", "versions", "arrays", "epoch"):
        if not isinstance(metadata.get(name), dict):
            raise ValueError(f"{name!r} is no object")
    if not all(isinstance(part, dict) for part in metadata["identity"].values()):
        raise ValueError("'identity' holds no objects")
    if not all(type(value) in (int, float) for value in metadata["epoch"].values()):
        raise ValueError("'epoch' holds no numbers")
    check_history(metadata.get("history"))
    if str(metadata.get("step")) != step:
        raise ValueError(f"it is of step {metadata.get('step')!r}, in a directory named {step}")
    return metadata


def check_compatible(
    checkpoint: Path, metadata: Mapping[str, Any], like: Any, identity: str | None
) -> None:
    """Raises if a checkpoint is of another run, or of another network or optimizer.

    Args:
      checkpoint: its directory.
      metadata: its metadata.
      like: the state that it is to be restored to, or its shapes.
      identity: of this run; None for any.

    Raises:
      ValueError: it is; in one line that shows the difference.
    """
    remedy = "Nothing was changed. Give another directory by --workdir."
    if identity and (changed := differences(identity, json.dumps(metadata["identity"]))):
        raise ValueError(
            f"checkpoint {checkpoint} is of a run with another configuration or other data"
            f" ({'; '.join(changed)}). {remedy}"
        )
    there, here = metadata["arrays"], arrays(like)
    if there != here:
        changed = [
            f"{name}: {there.get(name, 'none')} there, {here.get(name, 'none')} here"
            for name in sorted(there.keys() | here.keys())
            if there.get(name) != here.get(name)
        ]
        more = f"; and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise ValueError(
            f"checkpoint {checkpoint} is of another network or optimizer"
            f" ({'; '.join(changed[:3])}{more}). {remedy}"
        )


def other_versions(metadata: Mapping[str, Any]) -> str | None:
    """Says what is different from the machine that wrote a checkpoint.

    Args:
      metadata: of the checkpoint.

    Returns:
      One line, or None if nothing is.

    Example:
      >>> there = bits_depend_on([]) | {"jax": "0.1"}
      >>> other_versions({"versions": there, "arrays": {}}).partition(",")[0]
      "jax: '0.1' there"
    """
    there, here = metadata["versions"], bits_depend_on(metadata["arrays"])
    known = there.keys() & here.keys()  # an older checkpoint says less
    return "; ".join(changes({k: there[k] for k in known}, {k: here[k] for k in known})) or None
