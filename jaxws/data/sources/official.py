"""What is known of the data sets that ``python -m jaxws prepare`` prepares: archives and sizes."""

import hashlib
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from jaxws.system.terminal import track

_BLOCK = 1024**2


class Archive(NamedTuple):
    """An official archive.

    Attributes:
      file_name: its name in the manual directory.
      size: bytes.
      digest: 'md5:...' or 'sha256:...', or '' where it takes too long to compute.
      url: where it can be downloaded, or '' if only after registration.
    """

    file_name: str
    size: int
    digest: str = ""
    url: str = ""


class Official(NamedTuple):
    """A data set.

    Attributes:
      version: the version that TFDS gives it.
      archives: archives that hold it; where they can be downloaded, any of them will do.
      disk_bytes: about what the prepared data takes.
      images: number of images of each split.
      config: name of a configuration that trains on it.
      manual: what to do if it cannot be downloaded, or ''.
    """

    version: str
    archives: tuple[Archive, ...]
    disk_bytes: int
    images: dict[str, int]
    config: str
    manual: str = ""


_CIFAR = "https://www.cs.toronto.edu/~kriz/"

OFFICIAL = {
    "cifar10": Official(
        "3.0.2",
        (
            Archive(
                "cifar-10-binary.tar.gz",
                170052171,
                "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                _CIFAR + "cifar-10-binary.tar.gz",
            ),
            # MD5 sums of the Python archives: torchvision 0.29.1, datasets/cifar.py. Sizes of the
            # Python archives: public download logs; those of the binary ones and all SHA-256 sums:
            # tensorflow_datasets 4.9.10, url_checksums/cifar10.txt and cifar100.txt.
            Archive("cifar-10-python.tar.gz", 170498071, "md5:c58f30108f718f92721af3b95e74349a"),
        ),
        160_000_000,
        {"train": 50_000, "test": 10_000},
        "cifar10_lc_ws1",
    ),
    "cifar100": Official(
        "3.0.2",
        (
            Archive(
                "cifar-100-binary.tar.gz",
                168513733,
                "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
                _CIFAR + "cifar-100-binary.tar.gz",
            ),
            Archive("cifar-100-python.tar.gz", 169001437, "md5:eb9058c3a382ffc7106e4002c42a8d85"),
        ),
        160_000_000,
        {"train": 50_000, "test": 10_000},
        "cifar100_lc_ws1",
    ),
    "tiny_imagenet": Official(
        "1.0.0",
        (
            Archive(
                "tiny-imagenet-200.zip",
                248100043,
                "sha256:6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
                "https://cs231n.stanford.edu/tiny-imagenet-200.zip",
            ),
        ),
        280_000_000,
        {"train": 100_000, "validation": 10_000},
        "tiny_imagenet_lc_ws1",
    ),
    "imagenet2012": Official(
        "5.1.0",
        (
            Archive("ILSVRC2012_img_train.tar", 147897477120),
            Archive("ILSVRC2012_img_val.tar", 6744924160),
        ),
        155_000_000_000,
        {"train": 1_281_167, "validation": 50_000},
        "imagenet_lc_ws1",
        "register at https://image-net.org/download-images, download ILSVRC2012_img_train.tar "
        "(148 GB) and ILSVRC2012_img_val.tar (6.7 GB) into one directory, and give it by "
        "--manual_dir",
    ),
}


def missing_images(name: str, counts: Mapping[str, int]) -> str:
    """What a prepared data set lacks of the official one.

    Args:
      name: name of the data set.
      counts: number of images of each split.

    Returns:
      A phrase, or '' if it is whole or there is no official one.

    Example:
      >>> missing_images("tiny_imagenet", {"train": 12, "validation": 10_000})
      "12 of 100000 images of split 'train'"
      >>> missing_images("digits", {"train": 12})
      ''
    """
    images = OFFICIAL[name].images if name in OFFICIAL else {}
    return " and ".join(
        f"{counts.get(split, 0)} of {expected} images of split {split!r}"
        for split, expected in images.items()
        if counts.get(split, 0) != expected
    )


def verify(archive: Archive, path: pathlib.Path) -> None:
    """Checks that a file is an official archive, to the bit.

    Args:
      archive: what is expected.
      path: the file.

    Raises:
      ValueError: if its size or checksum differs.

    Example:
      >>> verify(Archive("a.zip", 3), pathlib.Path("/dev/null"))
      Traceback (most recent call last):
      ValueError: /dev/null has 0 bytes, expected 3 for the official a.zip: it is truncated or \
another file; download it again
    """
    size = path.stat().st_size
    if size != archive.size:
        raise ValueError(
            f"{path} has {size} bytes, expected {archive.size} for the official "
            f"{archive.file_name}: it is truncated or another file; download it again"
        )
    kind, _, expected = archive.digest.partition(":")
    if not kind:
        return
    digest: hashlib._Hash = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        for block in track(_blocks(file.read), f"Checking {path.name}", size, weight=_BLOCK):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise ValueError(
            f"{path} has {kind} {digest.hexdigest()}, expected {expected} for the official "
            f"{archive.file_name}: it is damaged; download it again"
        )


def _blocks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while block := read(_BLOCK):
        yield block
