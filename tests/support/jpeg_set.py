"""A small prepared data set of JPEGs of many sizes, under the name of ImageNet."""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxws.data.sources.prepare import LocalBuilder, prepare

CLASSES = 4


def picture(index, mode="RGB"):
    """A smooth picture of its own size and colours, to which decoders cannot do much harm."""
    rng = np.random.default_rng(index)
    size = tuple(int(side) for side in rng.integers(12, 40, 2))
    coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)


def encode(image, form="jpeg", **options):
    file = io.BytesIO()
    image.save(file, form, **({"quality": 90} if form == "jpeg" else {}) | options)
    return file.getvalue()


class JpegSet(LocalBuilder, skip_registration=True):
    """`train` and `validation`, given as lists of encoded images."""

    VERSION = tfds.core.Version("5.1.0")
    name = "imagenet2012"

    def __init__(self, *, train, validation, **kwargs):
        self.files = {"train": train, "validation": validation}
        super().__init__(**kwargs)

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(num_classes=CLASSES),
            "file_name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _shard_iterators_per_split(self, dl_manager):
        return {split: [lambda split=split: self.examples(split)] for split in self.files}

    def examples(self, split):
        for i, data in enumerate(self.files[split]):
            yield i, {"image": io.BytesIO(data), "label": i % CLASSES, "file_name": f"{split}{i}"}


def make_set(data_dir, train=10, validation=5):
    """Prepare it; numbers of images stand for pictures, lists hold encoded images."""
    splits = {"train": train, "validation": validation}
    splits = {
        split: files if isinstance(files, list) else [encode(picture(i)) for i in range(files)]
        for split, files in splits.items()
    }
    return prepare(JpegSet(data_dir=str(data_dir), **splits))
