"""Where the time goes that the host pipeline takes for an image: CPU time of its parts, one thread.

   $ python -m benchmarks.input_parts

The parts take turns, round by round; medians. Images are those of benchmarks.input.
"""

from __future__ import annotations

import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.input_images import photographs, prepare_photographs
from jaxws.config.choices import DECODERS
from jaxws.data.host.batches import Cropper, training_batches
from jaxws.data.host.crops import DRAWS, Box, random_box
from jaxws.data.host.decoders import cut, decode_record
from jaxws.data.sources.records import Record, Records

IMAGES, ROUNDS, SIZE = 64, 11, 224


def parts(directory: str) -> dict[str, Callable[[int], Any]]:
    """What is done for image i, by name; a whole batch for i = 0 in the last ones."""
    builder = prepare_photographs(photographs(IMAGES), directory)
    records = Records(builder, "train")
    some = [records[i] for i in range(IMAGES)]
    draws = np.random.default_rng(0).random((IMAGES, DRAWS))
    images: dict[str, Any] = {d: [decode_record(r, 3, d) for r in some] for d in DECODERS}
    boxes = [random_box(u, *image.size) for u, image in zip(draws, images["pil"], strict=True)]
    crops = [cut(*pair, (SIZE, SIZE)) for pair in zip(images["pil"], boxes, strict=True)]
    result: dict[str, Callable[[int], Any]] = {
        "read": lambda i: records._source.data_source[i],
        "read and parse": lambda i: records[i],
        "draw a box": lambda i: random_box(draws[i], *images["pil"][i].size),
        "crop to array": lambda i: np.asarray(crops[i]),
    }
    # As many records as ImageNet has: Grain's shuffle is slow for few.
    many = Records(builder, "train", np.resize(np.arange(IMAGES), 1_281_167))
    for name in DECODERS:
        batches = training_batches(many, Cropper(SIZE, 3, name), seed=0, batch_size=IMAGES)
        result[f"{name}: decode"] = functools.partial(_decode, some, name)
        result[f"{name}: cut and resize"] = functools.partial(_cut, images[name], boxes)
        result[f"{name}: all of it"] = functools.partial(_batch, batches)
    return result


def _decode(records: list[Record], decoder: str, index: int) -> Any:
    return decode_record(records[index], 3, decoder)


def _cut(images: list[Any], boxes: list[Box], index: int) -> Any:
    return cut(images[index], boxes[index], (SIZE, SIZE))


def _batch(batches: Any, index: int) -> Any:
    return batches[7] if index == 0 else None  # all images at once


def measure(work: dict[str, Callable[[int], Any]], rounds: int) -> dict[str, float]:
    """Median CPU milliseconds of each part for an image."""
    samples: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, part in work.items():
            begin = time.thread_time()
            for index in range(IMAGES):
                part(index)
            samples[name].append(1e3 * (time.thread_time() - begin) / IMAGES)
    return {name: statistics.median(values) for name, values in samples.items()}


def main() -> int:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as directory:
        work = parts(directory)
        for name, milliseconds in measure(work, ROUNDS).items():
            print(f"{name:30} {milliseconds:.3f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
