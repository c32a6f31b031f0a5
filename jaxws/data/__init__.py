"""Data sets in memory, and batches of them cut on the device.

`load_dataset` reads a small image data set (the digits that come with the package, a folder of
images, or anything TFDS has prepared) into flat uint8 arrays, without TensorFlow. The rest runs
inside a jit: `epoch_order` says which images a step sees and `training_batch` crops, flips and
normalises them, all of it a function of (seed, step).
"""

from jaxws.data.augment import Batch, evaluation_batch, training_batch
from jaxws.data.crop import crop_and_flip, view_shape
from jaxws.data.order import epoch_order, evaluation_order, steps_per_epoch
from jaxws.data.source import Dataset, Split, load_dataset
from jaxws.data.splits import choose_rows

__all__ = [
    "Batch",
    "Dataset",
    "Split",
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
