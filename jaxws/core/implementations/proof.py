"""Whether an implementation computes the layer, tried where it is to run.

Kernels for hardware can be wrong on hardware that nobody has tried them on: another generation,
another driver, another version of a compiler. So the first layer of a process that would take a
kernel by default waits for a proof: the three maps of a small layer, compiled for the device and
compared with the formula in NumPy. That costs no compilation, as comparing with ``"slices"`` would,
which took 1.0 s on a CPU in place of 0.1 s; and what it says about ``"slices"`` is worth something.

Its numbers are small integers. Their products and sums have a few binary digits, which TF32 and
bfloat16 operands and float32 sums all hold without rounding, so that there is nothing to allow for
but one rounding of the result to its dtype: whatever differs by more is wrong.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxws.core.implementations.spec import MAPS, Implementation, Spec, error_line
from jaxws.core.local_kernels import accumulation_dtype
from jaxws.core.platform import is_here
from jaxws.core.window import Window, make_window

_GRADIENT, _FOLDED = "kernel_gradient", "kernel_gradient of a shared filter"
_lock = threading.Lock()
_proven: set[tuple[str, str]] = set()
_wrong: set[str] = set()


class Problem(NamedTuple):
    """A layer and arrays of small integers, on the host.

    Attributes:
      spec: the layer's geometry and dtypes.
      arguments: of each map.
    """

    spec: Spec
    arguments: dict[str, tuple[np.ndarray, np.ndarray]]


def make_problem(
    window: Window, channels: int, features: int, batch: int, dtype: jax.typing.DTypeLike
) -> Problem:
    """A layer whose three maps have results without rounding, but that to their dtype.

    Args:
      window: the geometry.
      channels: input channels c.
      features: output features f.
      batch: number of images n.
      dtype: of all arrays.

    Returns:
      A :class:`Problem`.

    Example:
      >>> problem = make_problem(make_window((4, 4), (3, 3), 1, 1), 2, 3, 5, "float32")
      >>> [a.shape for a in problem.arguments["forward"]]
      [(4, 4, 2, 5), (4, 4, 3, 3, 2, 3)]
    """
    rng, dtype = np.random.default_rng(0), jax.numpy.dtype(dtype)
    spec = Spec(window, 1, accumulation_dtype(dtype), dtype)
    # Positive numbers add up to some hundreds, which sums in half precision would round on their
    # way; where they would add up to more than float16 can hold, signs let them cancel.
    terms = max(math.prod(window.kernel_size) * max(channels, features), batch)
    lowest = 1 if terms * 7 * 7 < jax.numpy.finfo(jax.numpy.float16).max else -6
    x, kernel, dy = (
        rng.integers(lowest, 8, size=shape).astype(dtype)
        for shape in (
            (*window.input_size, channels, batch),
            (*window.output_size, *window.kernel_size, channels, features),
            (*window.output_size, features, batch),
        )
    )
    return Problem(spec, dict(zip(MAPS, ((x, kernel), (dy, kernel), (x, dy)), strict=True)))


def reference(problem: Problem) -> dict[str, np.ndarray]:
    """The results of the three maps, by NumPy; the float32 sums are exact.

    Args:
      problem: the layer.

    Returns:
      By map, its result in float32.
    """
    window = problem.spec.window
    x, kernel = (a.astype(np.float32) for a in problem.arguments["forward"])
    dy = problem.arguments["kernel_gradient"][1].astype(np.float32)
    padded = np.pad(x, [*window.padding, (0, 0), (0, 0)])
    y, d_padded, d_kernel = np.zeros_like(dy), np.zeros_like(padded), np.zeros_like(kernel)
    every = (slice(None),) * len(window.kernel_size)
    for offset in itertools.product(*map(range, window.kernel_size)):
        seen = tuple(
            slice(i * d, i * d + (size - 1) * s + 1, s)
            for i, d, size, s in zip(
                offset, window.dilation, window.output_size, window.strides, strict=True
            )
        )
        weights, pixels = kernel[every + offset], padded[seen]  # (h, w, c, f), (h, w, c, n)
        y += weights.swapaxes(-1, -2) @ pixels
        d_padded[seen] += weights @ dy
        d_kernel[every + offset] = pixels @ dy.swapaxes(-1, -2)
    inside = tuple(
        slice(low, low + size)
        for (low, _), size in zip(window.padding, window.input_size, strict=True)
    )
    return dict(zip(MAPS, (y, d_padded[inside], d_kernel), strict=True))


def compiled(
    implementation: Implementation, problem: Problem, device: jax.Device
) -> dict[str, Callable[[], jax.Array]]:
    """Each map as a function without arguments, and its arguments, on a device.

    Args:
      implementation: what to compute with.
      problem: the layer.
      device: where.

    Returns:
      By map, a function; it compiles when it is called first.
    """

    def on_device(name: str, arrays: tuple[np.ndarray, np.ndarray]) -> Callable[[], jax.Array]:
        contraction, spec = getattr(implementation, name), problem.spec
        function = jax.jit(lambda a, b: contraction(a, b, spec))
        arrays = jax.device_put(arrays, device)
        return lambda: function(*arrays)

    return {name: on_device(name, arrays) for name, arrays in problem.arguments.items()}


def difference(actual: Any, expected: Any) -> float:
    """The largest difference, in units of the largest number that is expected.

    Args:
      actual: an array.
      expected: another of the same shape.

    Returns:
      A fraction; infinite if ``actual`` has another shape or numbers that are not finite.

    Example:
      >>> difference(np.ones(3), np.array([1.0, 1.0, 2.0]))
      0.5
    """
    actual, expected = (np.asarray(jax.device_get(a), np.float64) for a in (actual, expected))
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return np.inf
    return float(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1.0))


def tolerance(dtype: jax.typing.DTypeLike) -> float:
    """What one rounding of a result to its dtype may change, as a fraction.

    Example:
      >>> tolerance("bfloat16")
      0.0078125
    """
    return float(jax.numpy.finfo(dtype).eps)


def failure(
    implementation: Implementation, platform: str, dtype: jax.typing.DTypeLike
) -> str | None:
    """Tries an implementation on a small layer; may be called while JAX traces something else.

    The trial has a thread of its own, where no trace, mesh or setting of the caller is in force.

    Args:
      implementation: the one to try.
      platform: ``'cpu'``, ``'gpu'`` or ``'tpu'``.
      dtype: of the image and the kernel.

    Returns:
      What is wrong, in one line, or None.
    """
    outcome: list[str | None] = []
    trial = threading.Thread(
        target=lambda: outcome.append(_failure(implementation, platform, jax.numpy.dtype(dtype)))
    )
    trial.start()
    trial.join()
    return outcome[0]


def _failure(implementation: Implementation, platform: str, dtype: np.dtype) -> str | None:
    # Borders, a stride, a remainder in every axis that blocks could cut.
    window = make_window((7, 6), (3, 3), (2, 1), 1)
    try:
        with jax.enable_x64(True) if dtype == np.float64 else nullcontext():
            problem = make_problem(window, 5, 18, 37, dtype)
            kernel_shape = problem.arguments["forward"][1].shape
            if reason := implementation.unsupported_reason(problem.spec, kernel_shape, 37, dtype):
                return f"it does not support {reason}"
            device = jax.local_devices(backend=platform)[0]
            actual, expected = compiled(implementation, problem, device), reference(problem)
            if implementation.folds:
                actual[_FOLDED] = compiled(implementation, _folded(problem), device)[_GRADIENT]
                expected[_FOLDED] = expected[_GRADIENT].sum((0, 1), keepdims=True)
            worst = {name: difference(run(), expected[name]) for name, run in actual.items()}
    except Exception as error:  # any that a compiler or a driver may raise
        return error_line(error)
    allowed = tolerance(dtype)
    wrong = [f"{name} by {found:.2g}" for name, found in worst.items() if not found <= allowed]
    return f"its results are wrong: {', '.join(wrong)}" if wrong else None


def _folded(problem: Problem) -> Problem:
    """The kernel's gradient where all positions share one filter."""
    spec = problem.spec.folding((1,) * len(problem.spec.window.output_size))
    return Problem(spec, {_GRADIENT: problem.arguments[_GRADIENT]})


def trusted(
    name: str, implementation: Implementation, platform: str, dtype: jax.typing.DTypeLike
) -> bool:
    """Whether a default may be used; tried once per process and dtype.

    One that was wrong in any dtype is not used again. ``JAXWS_PROVE=0`` trusts all, and so do
    programs that are compiled for devices that are not here.

    Args:
      name: of the implementation, for the warning.
      implementation: the default of the platform.
      platform: as in :func:`failure`.
      dtype: of the image and the kernel.

    Returns:
      False if it does not compile, raises or computes something else; why is logged, once.
    """
    if os.environ.get("JAXWS_PROVE", "1") == "0" or not is_here(platform):
        return True
    key = name, jax.numpy.dtype(dtype).name
    with _lock:
        if name in _wrong:
            return False
        if key in _proven:
            return True
        why = failure(implementation, platform, dtype)
        if why is None:
            _proven.add(key)
            return True
        _wrong.add(name)
    logging.getLogger("jaxws").warning(
        "the kernels %r cannot be used on this %s (%s), and slower ones by XLA take their place;"
        " python -m jaxws check tells more (JAXWS_PROVE=0 skips this test): %s",
        name,
        platform.upper(),
        key[1],
        why,
    )
    return False
