"""Memory traffic of a training step on a TPU, read from programs compiled without one.

$ pip install libtpu
$ python -m benchmarks.tpu_aot patches slices mosaic

Compiles the whole step of the paper's ImageNet network (0.5x ResNet-18, 224 x 224, batch 256,
bfloat16 activations, AdamW, ws(1), donated state) for one TPU v5e chip, once per implementation,
and adds what the compiler says about it to ``benchmarks/results/tpu_aot.json``. Nothing is run:
these are no times.

``bytes_accessed`` is XLA's cost analysis: for each operation that is left after fusion, the bytes
of its operands and results in their tiled, padded layout. It cannot look into Pallas calls and takes
for each the estimate that the call brings along (``cost_estimate``): every operand and result once,
tiles included, which is what the block specifications move, listed apart as ``pallas_bytes``.
XLA may keep an intermediate array in on-chip memory, so the figures are upper bounds of the traffic.
Memory is the compiler's buffer assignment.
"""

from __future__ import annotations

import datetime
import json
import os
import re
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
from jaxws.data.augment import Batch
from jaxws.models import resnet18
from jaxws.train_state import create_train_state
from jaxws.train_step import Sharing, train_step

RESULTS = Path(__file__).parent / "results" / "tpu_aot.json"
TOPOLOGY, BATCH, IMAGE = "v5e:2x2", 256, (224, 224, 3)


def lower_step(implementation: str, every: int = 1, packed: bool = False) -> Any:
    """Traces the step for one chip.

    Args:
      implementation: of the locally connected layers.
      every: n of ws(n); 0 is never.
      packed: keep kernels and their moments packed between steps.

    Returns:
      A ``jax.stages.Lowered``.
    """
    device = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGY).devices[0]
    place = partial(jax.tree.map, lambda s: s.update(sharding=SingleDeviceSharding(device)))
    model = resnet18(conv=partial(LocalConv, implementation=implementation), dtype=jnp.bfloat16)
    optimizer = optax.adamw(1e-3)
    create = partial(create_train_state, model=model, optimizer=optimizer, image_shape=IMAGE)
    state = place(jax.eval_shape(create, jax.random.key(0)))
    batch = place(
        Batch(
            image=jax.ShapeDtypeStruct((BATCH, *IMAGE), jnp.bfloat16),
            label=jax.ShapeDtypeStruct((BATCH,), jnp.int32),
            mask=None,
        )
    )
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
    if "DUMP" in os.environ:
        Path(os.environ["DUMP"]).write_text(compiled.as_text())
    peak = (
        memory.argument_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
    )
    return {
        "implementation": implementation,
        **arguments,
        "bytes_accessed": int(cost["bytes accessed"]),
        "argument_bytes": memory.argument_size_in_bytes,
        "temp_bytes": memory.temp_size_in_bytes,
        "peak_bytes": peak,
        "trace_seconds": round(traced - start, 1),
        "compile_seconds": round(time.perf_counter() - traced, 1),
    }


if __name__ == "__main__":
    kw = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    print(json.dumps(measure(sys.argv[1], **kw), indent=1))
