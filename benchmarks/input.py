"""Speed of the input pipelines: images/s of ImageNet's, crops/s of a data set on the device.

   $ python -m benchmarks.input --out benchmarks/results/input_cpu.json

docs/data_host.md says what is measured. There are no images of ImageNet here: photographs of their
sizes stand in.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from benchmarks import augment, machine
from benchmarks.input_images import describe, photographs, prepare_photographs
from benchmarks.input_peers import has_tensorflow, images_per_second, plain_loop, tf_data
from jaxws.config.choices import DECODERS
from jaxws.data.host.ahead import MadeAhead
from jaxws.data.host.batches import Cropper, training_batches
from jaxws.data.host.decoders import cut, decode_record
from jaxws.data.sources.records import Record, Records

BATCH = 64
N_REPS = (1, 4, 16)
REFERENCE = "plain loop, Pillow"  # on one core


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--images", type=int, default=512, help="in the data set")
    parser.add_argument(
        "--seconds", type=float, default=0.7, help="of each measurement, on the host"
    )
    parser.add_argument("--rounds", type=int, default=6, help="measurements of each, in turns")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="at most")
    parser.add_argument("--out", type=Path, help="where to write the results, JSON")
    parser.add_argument("--only-device", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def host_variants(records: Records, files: list[bytes], cores: int) -> dict[str, Any]:
    """Iterators to measure, by name: (cores, function that starts one)."""

    def ours(decoder: str, n_reps: int = 1, **options: int) -> Callable[[], Iterator[Any]]:
        cropper = Cropper(224, 3, decoder)
        batches = training_batches(records, cropper, seed=0, batch_size=BATCH, n_reps=n_reps)
        return lambda: MadeAhead(batches, **options)

    variants: dict[str, Any] = {REFERENCE: (1, lambda: plain_loop(files, BATCH))}
    counts = sorted({1, cores})
    for decoder in DECODERS:
        for count in counts:
            variants[f"{decoder}, {count} threads"] = (count, ours(decoder, threads=count))
            variants[f"{decoder}, {count} workers"] = (count, ours(decoder, workers=count))
    variants["pil, 1 threads, 4 crops of each"] = (1, ours("pil", n_reps=4, threads=1))
    if has_tensorflow():
        for count in counts:
            for antialias in (True, False):
                name = f"tf.data, {count} threads" + ("" if antialias else ", not antialiased")
                start = lambda n=count, a=antialias: tf_data(files, BATCH, n, a)  # noqa: E731
                variants[name] = (count, start)
    return variants


def measure_host(variants: dict[str, Any], seconds: float, rounds: int) -> dict[str, Any]:
    """Starts all variants, each on as many cores as it is given, and lets them take turns.

    What is not asked for batches stops once those under way are done. The next one waits for that:
    batches of another one that are made beside it would be counted against it.
    """
    all_cores = sorted(os.sched_getaffinity(0))
    rates: dict[str, list[float]] = {name: [] for name in variants}
    computed: dict[str, list[float]] = {name: [] for name in variants}
    running: dict[str, Counted] = {}
    try:
        for _ in range(rounds):
            for name, (cores, start) in variants.items():
                # Threads and processes keep the cores that they were started on.
                os.sched_setaffinity(0, all_cores[:cores])
                if name not in running:
                    running[name] = Counted(start())
                    next(running[name])
                    wait_until_idle()
                begin, taken = cpu_seconds(), running[name].taken
                rates[name].append(images_per_second(running[name], BATCH, seconds, 2 + 2 * cores))
                wait_until_idle()
                # As many batches are ready as before: as many were made as were taken.
                images = BATCH * (running[name].taken - taken)
                computed[name].append(1e3 * (cpu_seconds() - begin) / images)
                say(f"{name}: {rates[name][-1]:.0f} images/s")
    finally:
        os.sched_setaffinity(0, all_cores)
        for batches in running.values():
            batches.close()
    plain = rates[REFERENCE]
    return {
        name: {
            "cores": variants[name][0],
            "images_per_second": samples,
            "median": statistics.median(samples),
            "per_core": statistics.median(samples) / variants[name][0],
            "best": max(samples),
            "cpu_milliseconds_per_image": statistics.median(computed[name]),
            "median_of_round_ratios": statistics.median(
                rate / other for rate, other in zip(samples, plain, strict=True)
            ),
        }
        for name, samples in rates.items()
    }


class Counted(Iterator[Any]):
    """Counts what is taken from an iterator."""

    def __init__(self, items: Iterator[Any]):
        """Takes nothing yet."""
        self._items, self.taken = items, 0

    def __next__(self) -> Any:
        """Takes the next item."""
        self.taken += 1
        return next(self._items)

    def close(self) -> None:
        """Closes the iterator if that can be closed."""
        getattr(self._items, "close", lambda: None)()


def wait_until_idle(pause: float = 0.1) -> None:
    """Waits until neither this process nor its children compute any more."""
    before, now = -1.0, cpu_seconds()
    while now - before > 0.05 * pause:
        time.sleep(pause)
        before, now = now, cpu_seconds()


def cpu_seconds() -> float:
    """What this process and its children have computed so far, with all of their threads."""
    total = time.process_time()
    for child in multiprocessing.active_children():
        # Fields after the name, which may hold spaces: user and system time are the 14th and 15th.
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    return total


def measure_device() -> list[dict[str, Any]]:
    """The jitted augmentation of a data set of CIFAR's size; batches of 512 images."""
    batch, results = 512, []
    for dtype in ("float32", "bfloat16"):
        for n_reps in N_REPS:
            seconds = augment.sample_seconds(
                images=50_000,
                side=32,
                crop_size=None,
                batch=batch,
                pad=4,
                n_reps=n_reps,
                dtype=dtype,
                rounds=15,
            )
            median = statistics.median(seconds)
            results.append(
                {
                    "dtype": dtype,
                    "n_reps": n_reps,
                    "seconds_per_batch": median,
                    "crops_per_second": batch * n_reps / median,
                    "images": batch,
                }
            )
    return results


def measure_pixels(files: list[bytes], size: int) -> dict[str, dict[str, float | None]]:
    """How far pixels are from Pillow's antialiased bilinear ones, for the largest square."""

    def scaled(box: np.ndarray, antialias: bool) -> np.ndarray:
        resized = jax.image.resize(
            box.astype(np.float32), (size, size, 3), "linear", antialias=antialias
        )
        return np.clip(np.rint(np.asarray(resized)), 0, 255)

    errors: dict[str, list[np.ndarray]] = {}
    for data in files:
        record = Record(data, 0, "")
        image = decode_record(record, 3, "pil")
        assert isinstance(image, Image.Image)
        side = min(image.size)
        # Not at the corner: `resize(box=...)` then sees pixels beyond the box.
        left, upper = (image.width - side) // 2, (image.height - side) // 2
        inner = (left + side // 8, upper + side // 8, left + 7 * side // 8, upper + 7 * side // 8)
        expected = np.asarray(cut(image, inner, (size, size))).astype(float)
        box = np.asarray(image.crop(inner))
        draft = Image.open(io.BytesIO(data))
        wanted = size / (inner[2] - inner[0])
        draft.draft("RGB", (round(wanted * image.width), round(wanted * image.height)))
        ratio = draft.width / image.width
        small = (inner[0] * ratio, inner[1] * ratio, inner[2] * ratio, inner[3] * ratio)
        bilinear = Image.Resampling.BILINEAR
        others = {
            "simplejpeg, cut and resized by Pillow": cut(
                decode_record(record, 3, "simplejpeg"), inner, (size, size)
            ),
            "Pillow, resize(box=...)": image.resize((size, size), bilinear, box=inner),
            "Pillow, draft mode": draft.resize((size, size), bilinear, box=small),
            "jax.image.resize, antialiased": scaled(box, True),
            "jax.image.resize, not antialiased": scaled(box, False),
        }
        for name, pixels in others.items():
            errors.setdefault(name, []).append(np.asarray(pixels) - expected)
    return {
        name: {
            "mean_abs": float(np.mean([np.abs(e).mean() for e in each])),
            "max_abs": float(max(np.abs(e).max() for e in each)),
            "psnr_db": psnr(float(np.mean([(e**2).mean() for e in each]))),
        }
        for name, each in errors.items()
    }


def psnr(mean_square: float) -> float | None:
    """In decibels, of 8-bit pixels; None where nothing differs."""
    return 10 * float(np.log10(255**2 / mean_square)) if mean_square else None


def device_in_one_core() -> list[dict[str, Any]]:
    """Measures in a process of its own, as XLA counts its cores once."""
    command = [sys.executable, "-m", "benchmarks.input", "--only-device"]
    done = subprocess.run(command, cwd=machine.ROOT, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def say(text: str) -> None:
    """Tells on standard error what goes on."""
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    options = parse(arguments)
    if options.only_device:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
        print(json.dumps(measure_device()))
        return 0
    files = photographs(options.images)
    results: dict[str, Any] = {"images": describe(files), "batch": BATCH}
    if not has_tensorflow():
        say("tf.data: skipped, as tensorflow is not installed")
    with tempfile.TemporaryDirectory() as directory:
        # As many records as ImageNet has: Grain's shuffle is slow for few.
        rows = np.resize(np.arange(len(files)), 1_281_167)
        records = Records(prepare_photographs(files, directory), "train", rows)
        variants = host_variants(records, files, options.cores)
        results["host"] = measure_host(variants, options.seconds, options.rounds)
    results["device"] = device_in_one_core()
    results["pixels"] = {size: measure_pixels(files[:64], size) for size in (224, 64)}
    for name, rate in results["host"].items():
        print(
            f"{name:42} {rate['median']:6.0f} images/s (best {rate['best']:.0f}),"
            f" {rate['median_of_round_ratios']:.2f} of the plain loop,"
            f" {rate['cpu_milliseconds_per_image']:.2f} ms of a core each"
        )
    for row in results["device"]:
        milliseconds = 1e3 * row["seconds_per_batch"]
        print(
            f"device, {row['dtype']}, n_reps {row['n_reps']}:"
            f" {row['crops_per_second']:.0f} crops/s,"
            f" {milliseconds:.1f} ms a batch of {row['images']} images"
        )
    for size, rows in results["pixels"].items():
        for name, row in rows.items():
            print(f"{size}: {name}: {json.dumps(row)}")
    if options.out:
        report = {"benchmark": "input", **machine.metadata(), **results}
        machine.write_report(options.out, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
