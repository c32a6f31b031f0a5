"""Small archives that pass for the official ones, and the command that prepares them."""

import hashlib

from jaxws.__main__ import main
from jaxws.config import base_config
from jaxws.data.sources.official import OFFICIAL, Archive
from tests.support import official_archives as archives

CLASSES = ("n01440764", "n01443537")  # 0 and 1 of ImageNet


def data_config(name, root):
    """The section `data` of a configuration that reads a data set below `root`."""
    data = base_config().data
    data.name, data.data_dir = name, str(root)
    return data


def imagenet_tars(directory, per_class=3, size=64):
    """ImageNet's tars with two classes, images of several sizes, and validation images 1 and 2."""
    train = {
        wnid: {
            f"{wnid}_{i}.JPEG": archives.noise(per_class * c + i, (size + i % 3, size))
            for i in range(per_class)
        }
        for c, wnid in enumerate(CLASSES)
    }
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 2)]
    return archives.imagenet(
        directory,
        train,
        [(name, archives.noise(100 + i, (size, size))) for i, name in enumerate(names)],
    )


def write_archive(name, directory):
    """A small archive; returns what is to be known of it in place of the official facts."""
    directory.mkdir(exist_ok=True)
    facts = OFFICIAL[name]._replace(disk_bytes=1)
    if name == "imagenet2012":
        imagenet_tars(directory)
        return facts._replace(images={"train": 6, "validation": 2})
    path = directory / facts.archives[0].file_name
    if name == "tiny_imagenet":
        archives.tiny_imagenet(path)
        images = {"train": 12, "validation": 3}
    else:
        archives.cifar_binary(path, archives.cifar_arrays([10] if name == "cifar10" else [20, 100]))
        images = {"train": 50, "test": 20}
    data = path.read_bytes()
    archive = Archive(path.name, len(data), "sha256:" + hashlib.sha256(data).hexdigest())
    return facts._replace(archives=(archive,), images=images)


def run_prepare(*arguments):
    """The status of `python -m jaxws prepare`."""
    try:
        return main(["prepare", *arguments])
    except SystemExit as stop:
        return stop.code
