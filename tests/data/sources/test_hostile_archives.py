"""Archives that claim more than they have: refused in one line, in no time and little memory."""

import gzip
import io
import os
import pickle
import resource
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from jaxws.data.sources import cifar as module
from jaxws.data.sources.bounded import MOST_IMAGE_BYTES
from jaxws.data.sources.cifar import Cifar10
from jaxws.data.sources.imagenet import TRAIN_TAR, VALIDATION_TAR
from jaxws.data.sources.imagenet import Builder as ImageNet
from jaxws.data.sources.prepare import is_whole, prepare
from jaxws.data.sources.tiny_imagenet import Builder as TinyImageNet
from tests.support import official_archives as archives
from tests.support.official_sets import CLASSES

BATCH = "cifar-10-batches-bin/data_batch_1.bin"
SIZES = [2**40, 2**62, 2**63 - 1, -512, -(2**62)]


def header(name, size, kind=tarfile.REGTYPE, **fields):
    """A header that claims a size, without its bytes."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    for key, value in fields.items():
        setattr(member, key, value)
    return member.tobuf(tarfile.GNU_FORMAT)


def sparse(name, size):
    """A file of the old GNU kind that has one byte, far behind a hole."""
    block = bytearray(header(name, 512, tarfile.GNUTYPE_SPARSE))
    block[386:410] = b"%011o\0%011o\0" % (0, 512)  # where, and how many bytes are stored
    block[483:495] = b"\x80" + size.to_bytes(11, "big")
    return checked(block) + bytes(512)


def checked(block):
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    return bytes(block)


def pax(name, size, **records):
    """A file whose size, or holes, stand in a header of their own."""
    member = tarfile.TarInfo(name)
    member.pax_headers = {"size": str(size), **records}
    return member.tobuf(tarfile.PAX_FORMAT)


def hostile_members(name):
    """What stands in for a file of an archive, by what is wrong with it."""
    found = {f"claims {size}": header(name, size) for size in SIZES if abs(size) < 2**62}
    found |= {f"pax claims {size}": pax(name, size) for size in SIZES}
    found |= {f"sparse {size}": sparse(name, size) for size in SIZES if size > 0}
    holes = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**62)}
    found["pax sparse"] = pax(name, 512, **holes) + b"1\n0\n512\n".ljust(512, b"\0")
    found["long name"] = header("././@LongLink", 2**40, tarfile.GNUTYPE_LONGNAME)
    found["negative name"] = header("././@LongLink", -512, tarfile.GNUTYPE_LONGNAME)
    found["pax header"] = header(name, 2**40, tarfile.XHDTYPE)
    found["negative pax header"] = header(name, -512, tarfile.XHDTYPE)
    found["link"] = header(name, 0, tarfile.SYMTYPE, linkname="/etc/passwd")
    found["hard link"] = header(name, 0, tarfile.LNKTYPE, linkname="/etc/passwd")
    found["device"] = header(name, 0, tarfile.CHRTYPE, devmajor=1, devminor=5)
    found["pipe"] = header(name, 0, tarfile.FIFOTYPE)
    found["directory"] = header(name, 2**40, tarfile.DIRTYPE)
    return found


def cifar(tmp_path, content, packed=True):
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(content, 1) if packed else content)
    return Cifar10(tmp_path / "a.tar.gz", data_dir=str(tmp_path / "tfds"))


def tar_of(files):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in files.items():
            archives.add(archive, name, data)
    return file.getvalue()


@pytest.fixture(autouse=True)
def little_memory():
    """As much as there is and a gigabyte, so that an array of what is claimed is an error."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def refused(tmp_path, make, message=r"is truncated|not the official|damaged|no tar|cannot be read"):
    with pytest.raises(ValueError, match=message) as caught:
        prepare(make())
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert not [path for path in (tmp_path / "tfds").glob("*/*") if is_whole(path)]


END = bytes(1024)


@pytest.mark.parametrize("case", hostile_members(BATCH))
@pytest.mark.parametrize("packed", [True, False], ids=["gzip", "plain"])
def test_cifar_members(tmp_path, case, packed):
    refused(tmp_path, lambda: cifar(tmp_path, hostile_members(BATCH)[case] + END, packed))


@pytest.mark.parametrize("case", hostile_members(f"{CLASSES[0]}_1.JPEG"))
def test_imagenet_members(tmp_path, case):
    member = hostile_members(f"{CLASSES[0]}_1.JPEG")[case] + END
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / TRAIN_TAR).write_bytes(tar_of({f"{CLASSES[0]}.tar": member}))
    refused(
        tmp_path,
        lambda: ImageNet(tmp_path / "a", data_dir=str(tmp_path / "tfds")),
        "truncated or no tar|would have no images",
    )


@pytest.mark.parametrize("case", hostile_members(f"{CLASSES[0]}.tar"))
def test_imagenet_classes(tmp_path, case):
    (tmp_path / TRAIN_TAR).write_bytes(hostile_members(f"{CLASSES[0]}.tar")[case] + END)
    refused(
        tmp_path,
        lambda: ImageNet(tmp_path, data_dir=str(tmp_path / "tfds")),
        "truncated or no tar|would have no images",
    )


def test_imagenet_image_that_is_too_large_and_a_pipe(tmp_path):
    archives.imagenet(tmp_path, {CLASSES[0]: {f"{CLASSES[0]}_0.JPEG": archives.noise(0)}})
    os.mkfifo(tmp_path / VALIDATION_TAR)
    builder = ImageNet(tmp_path, data_dir=str(tmp_path / "tfds"))
    assert list(prepare(builder).info.splits) == ["train"]
    image = "ILSVRC2012_val_00000001.JPEG"
    (tmp_path / VALIDATION_TAR).unlink()
    with (tmp_path / VALIDATION_TAR).open("wb") as file:
        file.write(header(image, MOST_IMAGE_BYTES + 1))
        file.truncate(2 * MOST_IMAGE_BYTES)  # a hole of the file system's
    other = ImageNet(tmp_path, data_dir=str(tmp_path / "tfds2"))
    refused(tmp_path / "tfds2", lambda: other, rf"{image} claims \d+ bytes, expected at most")


def test_cifar_of_zeros(tmp_path, monkeypatch):
    """Members that nobody needs, each as large as is allowed, and next to nothing on disk."""
    monkeypatch.setattr(module, "_MOST_BYTES", 2**22)
    zeros = [header(f"zeros{i}", 2**22 - 1024) + bytes(2**22 - 1024) for i in range(3)]
    for packed in (True, False):
        refused(
            tmp_path,
            lambda packed=packed: cifar(tmp_path, b"".join(zeros), packed),
            "claims more than the 4194304 bytes",
        )


def test_cifar_of_many_members_and_of_two_with_one_name(tmp_path):
    many = b"".join(header(f"file{i}", 0) for i in range(5000))
    refused(tmp_path, lambda: cifar(tmp_path, many + END), "it has more than 1000 files")
    two = tar_of({BATCH: b"x", f"/../{BATCH}": b"y"})
    refused(tmp_path, lambda: cifar(tmp_path, two), r"it has two files data_batch_1\.bin")


class Bomb:
    def __reduce__(self):
        return np.ndarray, ((2**40,), np.dtype("u1"))


def nested(levels=60):
    value = ["x"]
    for _ in range(levels):
        value = [value, value]
    return value


def deep():
    return b"".join([b"\x80\x02", b"]" * 50_000, b"a" * 49_999, b"."])


PICKLES = {
    "code": b"cos\nsystem\n(S'false'\ntR.",
    "a module": b"cantigravity\nfly\n.",
    "numpy's": b"cnumpy\nload\n(S'/etc/passwd'\ntR.",
    "an array": pickle.dumps({"label_names": Bomb()}, 2),
    "a place": b"\x80\x02]r\xff\xff\xff\x7f.",
    "nested": pickle.dumps({"label_names": nested()}, 2),
    "deep": deep(),
    "a length": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "a frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
    "no dict": pickle.dumps([1], 2),
    "bytes": pickle.dumps({"label_names": b"abc"}, 2),
}


@pytest.mark.parametrize("case", PICKLES)
def test_cifar_pickles(tmp_path, case):
    names = pickle.dumps({"label_names": archives.CIFAR10_NAMES}, 2)
    folder = "cifar-10-batches-py/"
    first = tar_of({folder + "batches.meta": PICKLES[case]})
    refused(tmp_path, lambda: cifar(tmp_path, first), "not the official")
    batch = PICKLES[case].replace(b"label_names", b"labels\x8c\x00N0"[:6])
    files = {folder + "batches.meta": names}
    files |= {f"{folder}data_batch_{i}": batch for i in range(1, 6)}
    refused(tmp_path, lambda: cifar(tmp_path, tar_of(files)), "not the official")


@pytest.mark.parametrize("labels", [nested(), ["1"], "1", 1, [None], np.zeros((2, 2)), [0.5]])
def test_cifar_labels(tmp_path, labels):
    names = pickle.dumps({"label_names": archives.CIFAR10_NAMES}, 2)
    batch = pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": labels}, 2)
    parts = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    files = {"batches.meta": names} | dict.fromkeys(parts, batch)
    refused(tmp_path, lambda: cifar(tmp_path, tar_of(files)), "not the official")


def tiny(tmp_path, change=lambda files: None, edit=lambda data: data):
    path = archives.tiny_imagenet(tmp_path / "tiny.zip", change=change)
    path.write_bytes(edit(path.read_bytes()))
    return lambda: TinyImageNet(path, data_dir=str(tmp_path / "tfds"))


def claim(name, size, compressed=None):
    """Changes what the directory of a zip says of the size of a file."""

    def edit(data):
        data = bytearray(data)
        place = data.rfind(b"PK\x01\x02", 0, data.rfind(name))
        data[place + 24 : place + 28] = struct.pack("<I", size)
        return bytes(data)

    return edit


@pytest.mark.parametrize("name", [b"wnids.txt", b"val_annotations.txt", b"n02124075_0.JPEG"])
@pytest.mark.parametrize("size", [2**32 - 2, MOST_IMAGE_BYTES + 1])
def test_tiny_imagenet_that_claims_more(tmp_path, name, size):
    refused(tmp_path, tiny(tmp_path, edit=claim(name, size)), "claims .* bytes|cannot be read")


def test_tiny_imagenet_of_zeros(tmp_path):
    path = tmp_path / "tiny.zip"
    archives.tiny_imagenet(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        name = "tiny-imagenet-200/train/n02124075/images/n02124075_9.JPEG"
        with archive.open(name, "w") as file:
            for _ in range(65):
                file.write(bytes(2**20))
    refused(
        tmp_path,
        lambda: TinyImageNet(path, data_dir=str(tmp_path / "tfds")),
        r"n02124075_9\.JPEG in .* cannot be read \(.*claims 68157440 bytes",
    )


def encrypted(data):
    data = bytearray(data)
    place = data.rfind(b"PK\x01\x02", 0, data.rfind(b"wnids.txt"))
    data[place + 8] |= 1
    return bytes(data)


def no_text(files):
    files["tiny-imagenet-200/wnids.txt"] = b"\xff\xfe"


@pytest.mark.parametrize(
    ("change", "edit"),
    [
        (lambda files: None, encrypted),
        (no_text, lambda data: data),
        (lambda files: None, lambda data: data[:-22] + b"\xff" * 22),
        (lambda files: None, lambda data: b"PK\x05\x06" + b"\xff" * 18),
        (lambda files: None, lambda data: b""),
    ],
)
def test_tiny_imagenet_that_is_no_such_zip(tmp_path, change, edit):
    refused(tmp_path, tiny(tmp_path, change, edit), "cannot be read as tiny-imagenet-200")
