"""Memory traffic of a training step on a TPU, read from programs compiled without one.

$ pip install libtpu
$ python -m benchmarks.tpu_aot patches slices mosaic

Compiles the whole step of the paper's ImageNet network (0.5x ResNet-18, 224 x 224, batch 256,
bfloat16 activations, AdamW, ws(1), donated state) for one TPU v5e chip, once per implementation,
and adds what the compiler says about it to ``benchmarks/results/tpu_aot.json``. Nothing is run:
there are no times of steps here.

``bytes_accessed`` is XLA's cost analysis: for each operation that is left after fusion, the bytes
of its operands and results in their tiled, padded layout. XLA cannot look into Pallas calls and
takes for each the estimate that the call brings along: every array that its block specifications
move, tiles included, once, and weights once per block of the batch. ``pallas_bytes`` is the sum of
these estimates, a part of ``bytes_accessed``. The compiler may keep an array in on-chip memory
between operations, so the figures are upper bounds of the traffic to HBM.

Memory is the compiler's buffer assignment: ``peak_bytes`` are arguments, results and temporaries,
less what donated arguments and results share.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shlex
import sys
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no TPU's metadata server to ask

import jax
import jax.numpy as jnp
import optax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from jaxws import LocalConv
from jaxws.core.packed import pack_kernels
from jaxws.core.pooled import pool_kernels
from jaxws.data.batch import Batch
from jaxws.models import resnet18
from jaxws.training.state import create_train_state
from jaxws.training.step import train_step
from jaxws.training.weight_sharing import Sharing

RESULTS = Path(__file__).parent / "results" / "tpu_aot.json"
TOPOLOGY, BATCH, IMAGE = "v5e:2x2", 256, (224, 224, 3)


def lower_step(
    implementation: str, every: int = 1, packed: bool = False, pooled: bool = False
) -> Any:
    """Traces the step for one chip.

    Args:
      implementation: of the locally connected layers.
      every: n of ws(n); 0 is never.
      packed: keep kernels and their moments packed between steps.
      pooled: keep kernels as one filter per pool, as from the second step of ws(1).

    Returns:
      A ``jax.stages.Lowered``.
    """
    device = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGY).devices[0]
    place = partial(jax.tree.map, lambda s: s.update(sharding=SingleDeviceSharding(device)))
    model = resnet18(conv=partial(LocalConv, implementation=implementation), dtype=jnp.bfloat16)
    optimizer = optax.adamw(1e-3)
    create = partial(create_train_state, model=model, optimizer=optimizer, image_shape=IMAGE)
    state = jax.eval_shape(create, jax.random.key(0))
    state = jax.eval_shape(pack_kernels, state) if packed else state
    if pooled:
        state = state.replace(params=jax.eval_shape(pool_kernels, state.params))
    state = place(state)
    image: Any = jax.ShapeDtypeStruct((BATCH, *IMAGE), jnp.bfloat16)
    label: Any = jax.ShapeDtypeStruct((BATCH,), jnp.int32)
    batch = place(Batch(image, label, mask=None))
    sharing = Sharing(every=every, pools="grid", steps_per_epoch=10**6)
    step = partial(train_step, model=model, optimizer=optimizer, sharing=sharing)
    return jax.jit(step, donate_argnums=0).lower(state, batch)


def measure(implementation: str, **arguments: Any) -> dict[str, Any]:
    """Compiles the step and collects what the compiler says.

    Args:
      implementation: of the locally connected layers.
      **arguments: as in :func:`lower_step`.

    Returns:
      Numbers by name.
    """
    start = time.perf_counter()
    lowered = lower_step(implementation, **arguments)
    traced = time.perf_counter()
    compiled = lowered.compile()
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    estimates = re.findall(r'"bytes_accessed":"?(\d+)', compiled.as_text())
    memory_bytes = {
        name: getattr(memory, f"{name}_size_in_bytes")
        for name in ("argument", "output", "alias", "temp")
    }
    held = memory_bytes["argument"] + memory_bytes["temp"]
    return {
        "implementation": implementation,
        **arguments,
        "bytes_accessed": int(cost["bytes accessed"]),
        "pallas_calls": len(estimates),
        "pallas_bytes": sum(map(int, estimates)),
        **{f"{name}_bytes": size for name, size in memory_bytes.items()},
        "peak_bytes": held + memory_bytes["output"] - memory_bytes["alias"],
        "trace_seconds": round(traced - start, 1),
        "compile_seconds": round(time.perf_counter() - traced, 1),
        "date": datetime.date.today().isoformat(),
        "versions": {name: version(name) for name in ("jax", "jaxlib", "libtpu")},
        "command": shlex.join(["python", "-m", "benchmarks.tpu_aot", *sys.argv[1:]]),
    }


def main() -> None:
    """Measures what the command line names and adds it to the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("implementations", nargs="*", default=["patches", "slices", "mosaic"])
    parser.add_argument("--every", type=int, default=1, help="n of ws(n); 0 is never")
    parser.add_argument("--packed", action="store_true", help="keep kernels packed")
    parser.add_argument("--pooled", action="store_true", help="keep one filter per pool, as ws(1)")
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    for implementation in given.implementations:
        layout = {"packed": given.packed, "pooled": given.pooled}
        result = measure(implementation, every=given.every, **layout)
        known = json.loads(given.output.read_text()) if given.output.exists() else []
        key = ("implementation", "every", "packed", "pooled")
        known = [one for one in known if any(one[k] != result[k] for k in key)]
        known = sorted([*known, result], key=lambda one: tuple(str(one[k]) for k in key))
        given.output.parent.mkdir(exist_ok=True)
        given.output.write_text(json.dumps(known, indent=1) + "\n")
        print(json.dumps(result))


if __name__ == "__main__":
    main()
