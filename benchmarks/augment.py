"""Time that a batch's gathering, crops, flips and normalisation take inside a jit.

The images are random bytes held on the device. ``taskset -c 0 python -m benchmarks.augment`` shows
what one core does; run ``python -m benchmarks.augment --help`` for other sizes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxws.data import Split, training_batch


def sample_seconds(
    *,
    images: int,
    side: int,
    crop_size: int | None,
    batch: int,
    pad: int,
    n_reps: int,
    dtype: str,
    rounds: int,
) -> list[float]:
    """Times batches of random images, each of other images and draws than the one before.

    Args:
      images: number of images that batches are drawn from.
      side: of the stored images, in pixels.
      crop_size: of what the network sees, or None for all of it.
      batch: images of a batch.
      pad: pixels that a crop may lie off the centre.
      n_reps: views of each image.
      dtype: of the images.
      rounds: number of samples, after one that compiles.

    Returns:
      Seconds, one per batch.
    """
    rng = np.random.default_rng(0)
    shape = (side, side, 3)
    pixels = rng.integers(0, 256, (images, side * side * 3), dtype=np.uint8)
    split = jax.device_put(Split(pixels, np.zeros(images, np.int32)))
    make = jax.jit(
        partial(
            training_batch,
            image_shape=shape,
            crop_size=crop_size,
            pad=pad,
            flip=True,
            n_reps=n_reps,
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
            dtype=jnp.dtype(dtype),
            ragged=True,
        )
    )
    seconds = []
    for index in range(rounds + 1):
        rows = jnp.asarray(rng.integers(0, images, batch), jnp.int32)
        key = jax.random.key(index)
        jax.block_until_ready((rows, key))
        begin = time.perf_counter()
        jax.block_until_ready(make(split, rows, key))
        seconds.append(time.perf_counter() - begin)
    return seconds[1:]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a table in Markdown.

    Args:
      arguments: of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augment", description=__doc__)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--side", type=int, default=32, help="of the stored images")
    parser.add_argument("--crop_size", type=int, help="of what the network sees; unset: the side")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--pad", type=int, default=4)
    parser.add_argument("--n_reps", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=15)
    options = vars(parser.parse_args(arguments))
    repetitions, dtypes = options.pop("n_reps"), options.pop("dtype")
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, batch {options['batch']}")
    print("| dtype | n_reps | ms, median (least) | crops/s |\n|---|---|---|---|")
    for dtype in dtypes:
        for n_reps in repetitions:
            seconds = sample_seconds(n_reps=n_reps, dtype=dtype, **options)
            median, least = statistics.median(seconds), min(seconds)
            crops = options["batch"] * n_reps / median
            print(
                f"| {dtype} | {n_reps} | {1000 * median:.1f} ({1000 * least:.1f}) | {crops:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
