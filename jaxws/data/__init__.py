"""Data sets, and batches of them.

``load_dataset`` reads a small image data set (the digits that come with the package, a folder of
images, or anything TFDS has prepared) into flat uint8 arrays, without TensorFlow. The rest runs
inside a jit: ``epoch_order`` says which images a step sees and ``training_batch`` crops, flips and
normalises them, all of it a function of (seed, step). Images that differ in size or are too many,
such as ImageNet's, are decoded and cut on the host. ``build_feed`` chooses; both ways are a
``Feed``.
"""

from jaxws.data.batch import Batch
from jaxws.data.build import build_feed
from jaxws.data.device.augment import evaluation_batch, training_batch
from jaxws.data.device.crop import crop_and_flip, view_shape
from jaxws.data.device.dataset import Dataset, Split, load_dataset
from jaxws.data.device.feed import DeviceFeed
from jaxws.data.device.order import epoch_order, evaluation_order, steps_per_epoch
from jaxws.data.feed import Batching, Feed, OneDevice, Placing
from jaxws.data.host.feed import HostFeed, HostOptions
from jaxws.data.prefetch import Prefetch
from jaxws.data.splits import choose_rows

__all__ = [
    "Batch",
    "Batching",
    "Dataset",
    "DeviceFeed",
    "Feed",
    "HostFeed",
    "HostOptions",
    "OneDevice",
    "Placing",
    "Prefetch",
    "Split",
    "build_feed",
    "choose_rows",
    "crop_and_flip",
    "epoch_order",
    "evaluation_batch",
    "evaluation_order",
    "load_dataset",
    "steps_per_epoch",
    "training_batch",
    "view_shape",
]
