"""A small folder of images, and reading it as a data set."""

import ml_collections
import numpy as np
from PIL import Image

from jaxws.config import base_config
from jaxws.data import load_dataset


def noise(seed, size=(8, 6), mode="RGB"):
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], bands), dtype=np.uint8)
    return Image.frombytes(mode, size, pixels.tobytes())


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def load(path, tmp_path, **changed):
    fields = base_config().data.to_dict()
    fields |= dict(name="folder", path=str(path), data_dir=str(tmp_path / "tfds")) | changed
    return load_dataset(ml_collections.ConfigDict(fields))


def assert_equal(first, second):
    for split in ("train", "test"):
        for one, other in zip(getattr(first, split), getattr(second, split), strict=True):
            np.testing.assert_array_equal(one, other)


def make_folder(root):
    """Two classes with three training images and one test image each."""
    for number, name in enumerate(("cat", "dog")):
        for i in range(3):
            save(noise(10 * number + i), root / f"train/{name}/{i}.png")
        save(noise(10 * number + 5), root / f"test/{name}/0.png")
    return root
