"""``train --compile_only``: what a run's step takes on devices that are not here."""

from __future__ import annotations

import json
import shlex
from importlib import metadata
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxws.core.islands.layout import AXES
from jaxws.parallel.choice import HEAD
from jaxws.parallel.collectives import wire_bytes
from jaxws.parallel.topologies import find_topology
from jaxws.records.provenance import given_command
from jaxws.system.terminal import print_table
from jaxws.system.text import say, size_text
from jaxws.training.ahead import Ahead, compile_ahead, does_not_fit

_COMPILERS = ("jax", "jaxlib", "libtpu", "jax-cuda13-pjrt", "jax-cuda12-pjrt")


def compile_only(config: ConfigDict, name: str, topology: str, *, as_json: bool) -> int:
    """Compiles a run's step for a topology, and prints what is known of it.

    Args:
      config: of the run, checked.
      name: of the configuration.
      topology: see :func:`jaxws.parallel.topologies.find_topology`.
      as_json: prints JSON, not tables.

    Returns:
      0.

    Raises:
      ValueError: what is wrong, or that the step does not fit into memory.
    """
    jax.config.update("jax_platforms", "cpu")  # what there is here is not needed
    found = find_topology(topology)
    count = len(found.devices)
    say(f"{name}: compiling its step for {count} chips, which takes a minute or so", error=True)
    ahead = compile_ahead(config, found)
    if as_json:
        print(json.dumps(facts(ahead), indent=1))
    else:
        show(ahead, name)
    if not ahead.fits:
        raise ValueError(does_not_fit(found, f"it needs {size_text(ahead.peak)}"))
    return 0


def facts(ahead: Ahead) -> dict[str, Any]:
    """What can be written as JSON.

    Args:
      ahead: a step.

    Returns:
      Names and values: bytes and seconds are of one device and one step.
    """
    least, most = ahead.step_seconds
    choice = ahead.choice
    return {
        "command": shlex.join(given_command()),
        "versions": {name: metadata.version(name) for name in _COMPILERS if _is_installed(name)},
        "topology": ahead.topology.name,
        "chips": len(ahead.topology.devices),
        "hosts": ahead.topology.hosts,
        "mesh": ahead.mesh,
        "mesh_reason": choice and choice.reason,
        "mesh_alternatives": [each._asdict() for each in choice.candidates] if choice else [],
        "images": ahead.images,
        "parameters": ahead.parameters,
        "argument_bytes": ahead.arguments,
        "temporary_bytes": ahead.temporaries,
        "peak_bytes": ahead.peak,
        "memory_bytes": ahead.topology.chip.memory,
        "fits": ahead.fits,
        "collectives": {
            kind: {"count": sent.calls, "payload_bytes": sent.payload, "wire_bytes": sent.wire}
            for kind, sent in ahead.sent.items()
        },
        "wire_bytes": wire_bytes(ahead.sent),
        "hbm_bytes": ahead.hbm,
        "flops": ahead.flops,
        "step_seconds_at_least": least,
        "step_seconds_at_most": most,
        "compile_seconds": ahead.seconds,
    }


def show(ahead: Ahead, name: str) -> None:
    """Prints tables.

    Args:
      ahead: a step.
      name: of the configuration.
    """
    if ahead.choice is not None:
        say(ahead.choice.reason)
        print_table([each.row() for each in ahead.choice.candidates], head=HEAD)
    print_table(rows(ahead), title=f"{name} on {ahead.topology.name}, per chip and step")
    kinds = [
        (kind, sent.calls, size_text(sent.payload), size_text(sent.wire))
        for kind, sent in ahead.sent.items()
    ]
    if kinds:
        head = ("collective", "count", "arrays", "sent")
        print_table(kinds, head=head, last_is_text=False)


def rows(ahead: Ahead) -> list[tuple[str, str]]:
    """Cells of a table.

    Args:
      ahead: a step.

    Returns:
      Names and values.
    """
    topology, (least, most) = ahead.topology, ahead.step_seconds
    chip = topology.chip
    mesh = "x".join(str(ahead.mesh[axis]) for axis in AXES)
    by = "by arithmetic only" if ahead.flops else "by arithmetic only, without FLOPs"
    fits = "fits" if ahead.fits else "does not fit"
    flops = "not told by XLA" if ahead.flops is None else f"{ahead.flops:.3g}"
    return [
        ("chips, hosts", f"{len(topology.devices)}, {topology.hosts}"),
        ("mesh (data x h x w)", mesh),
        ("images", str(ahead.images)),
        ("parameters of the network", f"{ahead.parameters:,}"),
        ("arguments (state, data)", size_text(ahead.arguments)),
        ("temporaries", size_text(ahead.temporaries)),
        ("peak", f"{size_text(ahead.peak)} of {size_text(chip.memory)}: {fits}"),
        ("sent to other chips", size_text(wire_bytes(ahead.sent))),
        ("HBM bytes moved, at most", size_text(ahead.hbm)),
        ("FLOPs", flops),
        (f"time, {by}", f"{1e3 * least:.3g} to {1e3 * most:.3g} ms"),
        (f"images/s, {by}", f"{ahead.images / most:.0f} to {ahead.images / least:.0f}"),
        ("compiled in", f"{ahead.seconds:.0f} s"),
    ]


def _is_installed(name: str) -> bool:
    return bool(list(metadata.distributions(name=name)))
