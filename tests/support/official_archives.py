"""Small archives in the layouts of the official ones, made up for tests."""

import io
import pathlib
import pickle
import tarfile
import zipfile

import numpy as np
from PIL import Image

CIFAR10_NAMES = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
]
COARSE_NAMES = [f"coarse_{i:02d}" for i in range(20)]
FINE_NAMES = [f"fine_{i:02d}" for i in range(100)]
WNIDS = ["n02124075", "n01443537", "n01629819"]


def add(archive, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def noise(seed, size=(64, 64), mode="RGB", form="jpeg"):
    """An image file of random pixels."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], bands), np.uint8)
    file = io.BytesIO()
    Image.frombytes(mode, size, pixels.tobytes()).save(file, form)
    return file.getvalue()


def cifar_arrays(classes, train=50, test=20, seed=0):
    """uint8 (n, 3072) images and a (n, len(classes)) array of labels, by split."""
    rng = np.random.default_rng(seed)
    return {
        split: (
            rng.integers(0, 256, (count, 3072), np.uint8),
            np.stack([rng.integers(0, c, count, np.uint8) for c in classes], 1),
        )
        for split, count in (("train", train), ("test", test))
    }


def cifar_binary(path, arrays):
    """The binary archive: CIFAR-10 for one column of labels, CIFAR-100 for two (coarse, fine)."""
    ten = arrays["train"][1].shape[1] == 1
    rows = {split: np.concatenate([y, x], 1) for split, (x, y) in arrays.items()}
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        if ten:
            names = "\n".join(CIFAR10_NAMES) + "\n\n"
            add(archive, "cifar-10-batches-bin/batches.meta.txt", names.encode())
            for i, part in enumerate(np.array_split(rows["train"], 5), 1):
                add(archive, f"cifar-10-batches-bin/data_batch_{i}.bin", part.tobytes())
            add(archive, "cifar-10-batches-bin/test_batch.bin", rows["test"].tobytes())
        else:
            for kind, names in (("coarse", COARSE_NAMES), ("fine", FINE_NAMES)):
                text = "\n".join(names) + "\n"
                add(archive, f"cifar-100-binary/{kind}_label_names.txt", text.encode())
            for split in ("train", "test"):
                add(archive, f"cifar-100-binary/{split}.bin", rows[split].tobytes())
    return path


def cifar_python(path, arrays):
    """The archive for Python with the same images."""
    ten = arrays["train"][1].shape[1] == 1
    keys = ["labels"] if ten else ["coarse_labels", "fine_labels"]

    def batch(images, labels):
        columns = {key: labels[:, i].tolist() for i, key in enumerate(keys)}
        return pickle.dumps({"data": images, **columns}, protocol=2)

    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        folder = "cifar-10-batches-py/" if ten else "cifar-100-python/"
        if ten:
            meta = {"label_names": CIFAR10_NAMES}
            add(archive, folder + "batches.meta", pickle.dumps(meta, protocol=2))
            parts = zip(*(np.array_split(a, 5) for a in arrays["train"]), strict=True)
            for i, part in enumerate(parts, 1):
                add(archive, f"{folder}data_batch_{i}", batch(*part))
            add(archive, folder + "test_batch", batch(*arrays["test"]))
        else:
            meta = {"coarse_label_names": COARSE_NAMES, "fine_label_names": FINE_NAMES}
            add(archive, folder + "meta", pickle.dumps(meta, protocol=2))
            for split in ("train", "test"):
                add(archive, folder + split, batch(*arrays[split]))
    return path


def tiny_imagenet(path, per_class=4, change=lambda files: None):
    """The zip of TinyImageNet with three classes; `change` edits a dict of its files."""
    root = "tiny-imagenet-200/"
    files = {root + "wnids.txt": "\n".join(WNIDS).encode()}
    notes = []
    for c, wnid in enumerate(WNIDS):
        for i in range(per_class):
            mode = "L" if i == 1 else "RGB"
            name = f"{root}train/{wnid}/images/{wnid}_{i}.JPEG"
            files[name] = noise(100 * c + i, mode=mode)
        files[f"{root}val/images/val_{c}.JPEG"] = noise(1000 + c)
        notes.append(f"val_{c}.JPEG\t{WNIDS[-1 - c]}\t0\t0\t62\t62\n")
        files[f"{root}test/images/test_{c}.JPEG"] = noise(2000 + c)
    files[root + "val/val_annotations.txt"] = "".join(notes).encode()
    change(files)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def imagenet(directory, train, validation=()):
    """The tars of ImageNet.

    `train` maps a class to its images by name, `validation` lists pairs of name and bytes.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(exist_ok=True)
    with tarfile.open(directory / "ILSVRC2012_img_train.tar", "w") as outer:
        for wnid, images in train.items():
            file = io.BytesIO()
            with tarfile.open(fileobj=file, mode="w") as inner:
                for name, data in images.items():
                    add(inner, name, data)
            add(outer, f"{wnid}.tar", file.getvalue())
    if validation:
        with tarfile.open(directory / "ILSVRC2012_img_val.tar", "w") as archive:
            for name, data in validation:
                add(archive, name, data)
    return directory
