"""The peers in JAX: all run ``jaxws.training.step`` and differ only in their layers' class."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine
from benchmarks import problem as problems
from benchmarks.problem import Problem
from jaxws import LocalConv
from jaxws.core.local_kernels import LOCAL_KERNEL, map_local_kernels
from jaxws.data.batch import Batch
from jaxws.layers.tied import Conv
from jaxws.models import ResNet, from_torch_state_dict
from jaxws.training.optimizers import OptimizerSettings
from jaxws.training.state import TrainState
from jaxws.training.state_layout import pool_if_shared
from jaxws.training.step import train_step
from jaxws.training.weight_sharing import Sharing


class FlaxConvLocal(nn.Module):
    """``flax.linen.ConvLocal`` with its kernel (h, w, (c i j), f) kept as (h, w, i, j, c, f).

    The memory is the same and only its shape differs. Sharing averages over h and w, and reads
    from the shape no more than the kernel's sides i and j, so ``share_weights`` does on this leaf
    exactly what it does on ours, at the same cost.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: int = 1
    padding: int = 0
    use_bias: bool = False
    kernel_init: Any = nn.initializers.lecun_normal()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (n, H, W, c) to (n, h, w, f)."""
        layer = nn.ConvLocal(
            self.features,
            self.kernel_size,
            strides=self.strides,
            padding=self.padding,
            use_bias=self.use_bias,
            dtype=self.dtype,
            parent=None,
        )
        flat: Any = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]["kernel"].shape
        shape = (*flat[:2], *self.kernel_size, x.shape[-1], self.features)
        kernel = self.param(LOCAL_KERNEL, self.kernel_init, shape, jnp.float32)
        y: Any = layer.apply({"params": {"kernel": kernel.reshape(flat)}}, x)
        return y


def channel_major(local_kernel: jax.Array) -> jax.Array:
    """Our kernel (h, w, i, j, c, f) in the order (h, w, c, i, j, f), kept in its own shape."""
    return local_kernel.transpose(0, 1, 4, 2, 3, 5).reshape(local_kernel.shape)


# Class of the layers and dtype of the activations.
PEERS: dict[str, tuple[Callable[..., nn.Module], Any]] = {
    "ours": (LocalConv, jnp.float32),
    "ours_bf16": (LocalConv, jnp.bfloat16),
    "unpooled": (LocalConv, jnp.float32),
    "slices": (partial(LocalConv, implementation="slices"), jnp.float32),
    "conv_local": (FlaxConvLocal, jnp.float32),
    "conv": (Conv, jnp.float32),
    "conv_bf16": (Conv, jnp.bfloat16),
    "conv_flax": (nn.Conv, jnp.float32),
}


CONVOLUTIONS = (Conv, nn.Conv)
# As train.py does; the others keep all positions' weights between steps.
POOLED = ("ours", "ours_bf16")
SHARING = Sharing(every=1, pools="grid", steps_per_epoch=100)
OPTIMIZER = OptimizerSettings(
    name="adamw",
    learning_rate=problems.LEARNING_RATE,
    momentum=0.0,
    weight_decay=problems.WEIGHT_DECAY,
    steps_per_epoch=100,
    drop_epochs=(),
    drop_factor=1.0,
)


class Peer:
    """A network, its state and its compiled step.

    Args:
      name: one of ``PEERS``.
      problem: what to compute.
    """

    def __init__(self, name: str, problem: Problem):
        layer, self.dtype = PEERS[name]
        self._pools = name in POOLED
        model = ResNet(
            problems.stage_sizes(problem.depth),
            problem.width,
            problem.classes,
            layer,
            dtype=self.dtype,
        )
        optimizer = OPTIMIZER.make()
        variables = from_torch_state_dict(
            model,
            problems.state_dict(problem, local=layer not in CONVOLUTIONS),
            image_shape=(problem.image, problem.image, 3),
        )
        params = variables["params"]
        if layer is FlaxConvLocal:
            params = map_local_kernels(lambda _, kernel: channel_major(kernel), params)
        images, labels = problems.make_batch(problem)
        self.batch = Batch(jnp.asarray(images), jnp.asarray(labels), mask=None)
        self.state = TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=variables["batch_stats"],
            opt_state=optimizer.init(params),
        )
        # A convolution shares already, and has nothing to share.
        sharing = SHARING._replace(every=0) if layer in CONVOLUTIONS else SHARING
        step = partial(train_step, model=model, optimizer=optimizer, sharing=sharing)
        self._step = jax.jit(step, donate_argnums=0)
        jax.block_until_ready((self.state, self.batch))

    def step(self) -> float:
        """One step, to its end; returns the loss before it."""
        state, metrics, _ = self._step(self.state, self.batch)
        self.state = pool_if_shared(state, SHARING) if self._pools else state
        jax.block_until_ready((self.state, metrics))
        return float(metrics["loss"]) / float(metrics["images"])

    def device(self) -> dict[str, str]:
        """Backend and model of the device."""
        return {"backend": jax.default_backend(), "kind": jax.devices()[0].device_kind}

    def device_peak_bytes(self) -> int | None:
        """Most memory of the device in use at a time; None on a CPU."""
        stats = jax.devices()[0].memory_stats()
        return stats["peak_bytes_in_use"] if stats else None

    def reset_device_peak(self) -> None:
        """JAX cannot: the peak is that since the start."""

    def rates(self, shrink: int = 1) -> dict[str, Any]:
        """What the machine can do, see :func:`measure_rates`."""
        return measure_rates(self.dtype, shrink)


def measure_rates(dtype: Any, shrink: int = 1) -> dict[str, Any]:
    """Operations of a big matrix product and bytes of a big copy, per second.

    Args:
      dtype: of the matrices.
      shrink: divides the sides of the matrices, for rates that need not be exact.

    Returns:
      ``flops`` and ``bytes`` per second, and the name of the dtype.
    """
    on_cpu = jax.default_backend() == "cpu"
    # Smaller where a CPU may have to emulate the dtype.
    emulated = on_cpu and jnp.dtype(dtype).itemsize < 4
    side, size = (1024 if emulated else 2048, 2**26) if on_cpu else (8192, 2**28)
    side, size = side // shrink, size // shrink**2
    a = jnp.ones((side, side), dtype)
    matmul = jax.jit(jnp.matmul)
    # In place, as an optimizer works: read once, written once.
    increment = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = jnp.ones(size, jnp.float32)

    def copy() -> None:
        nonlocal x
        x = increment(x).block_until_ready()

    return {
        "dtype": np.dtype(dtype).name,
        "flops": 2 * side**3 / machine.fastest(lambda: matmul(a, a).block_until_ready()),
        "bytes": 2 * x.nbytes / machine.fastest(copy),
    }
