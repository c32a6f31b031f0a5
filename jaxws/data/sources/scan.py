"""What a folder of images holds: splits, classes, files, and a fingerprint of it all."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

TEST_FOLDERS = ("test", "val", "validation")
_LAYOUT = "expected train/CLASS/IMAGE.jpg (or .jpeg, .png) and test/CLASS/IMAGE.jpg"
_SUFFIXES = (".jpg", ".jpeg", ".png")
# Pictures all the same: leaving them out would lose data without a word.
_OTHER_PICTURES = (".bmp", ".gif", ".webp", ".tif", ".tiff", ".jfif", ".jpe", ".jp2", ".heic")


class ImageFile(NamedTuple):
    """An image file: its name relative to the folder, its class, and its size in bytes."""

    name: str
    label: str
    size: int


@dataclasses.dataclass(frozen=True)
class Folder:
    """What was found in a folder.

    Attributes:
      path: the folder.
      class_names: names of the classes, sorted; the label of a class is its position.
      train: files of the training split, sorted by name.
      test: files of the test split, sorted by name.
      fingerprint: a hash of the names, sizes and times of change of all files.
    """

    path: pathlib.Path
    class_names: tuple[str, ...]
    train: tuple[ImageFile, ...]
    test: tuple[ImageFile, ...]
    fingerprint: str


def scan_folder(path: str) -> Folder:
    """Lists the images of a folder ``train/CLASS/*`` and ``test/CLASS/*``.

    Files are told by their suffix (.jpg, .jpeg, .png, in capitals or not); other files and
    hidden ones are left out. ``val`` or ``validation`` stands in where there is no ``test``.

    Args:
      path: the folder.

    Returns:
      What it holds. No image has been opened yet.

    Raises:
      ValueError: if the folder is missing or laid out in another way.

    Example:
      >>> import pathlib, tempfile
      >>> root = pathlib.Path(tempfile.mkdtemp())
      >>> for name in ("train/cat", "train/dog", "test/cat", "test/dog"):
      ...     (root / name).mkdir(parents=True)
      ...     _ = (root / name / "0.PNG").write_bytes(b"...")
      >>> folder = scan_folder(str(root))
      >>> folder.class_names, folder.test[1].name
      (('cat', 'dog'), 'test/dog/0.PNG')
    """
    root = pathlib.Path(path).expanduser()
    try:
        return _scan(path, root)
    except OSError as error:
        raise ValueError(
            f"image folder {path!r} cannot be listed ({error}): check permissions and broken links"
        ) from error


def _scan(path: str, root: pathlib.Path) -> Folder:
    if not root.exists():
        raise ValueError(f"image folder {path!r} does not exist: check --config.data.path")
    if not root.is_dir():
        raise ValueError(
            f"image folder {path!r} is a file, {_LAYOUT}: unpack it and give the folder"
        )
    test = next((name for name in TEST_FOLDERS if (root / name).is_dir()), None)
    if test is None or not (root / "train").is_dir():
        missing = "test" if test is None else "train"
        raise ValueError(
            f"image folder {path!r} has no folder {missing!r} (it has {name_some(_names(root))}), "
            f"{_LAYOUT}: check --config.data.path or move the images"
        )
    digest = hashlib.sha256()
    splits = {split: _scan_split(root, split, digest) for split in ("train", test)}
    classes = {split: _names(root / split, folders=True) for split in splits}
    _check_classes(path, classes["train"], classes[test], test)
    return Folder(
        path=root,
        class_names=tuple(classes["train"]),
        train=splits["train"],
        test=splits[test],
        fingerprint=digest.hexdigest()[:16],
    )


def name_some(names: Iterable[str], limit: int = 5) -> str:
    """Name a few of many, and say how many more there are.

    Example:
      >>> name_some("abcdefg", limit=3)
      'a, b, c and 4 more'
      >>> name_some([])
      'nothing'
    """
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) or "nothing") + more


def _scan_split(root: pathlib.Path, split: str, digest: "hashlib._Hash") -> tuple[ImageFile, ...]:
    _refuse(root, split, [name for name in _names(root / split) if _is_picture(name)])
    classes = _names(root / split, folders=True)
    if not classes:
        raise ValueError(f"folder {str(root / split)!r} has no class folders, {_LAYOUT}")
    files = []
    empty = []
    for label in classes:
        found = _scan_class(root, f"{split}/{label}", label, digest)
        files += found
        if not found:
            empty.append(f"{split}/{label}")
    if empty:
        raise ValueError(
            f"{len(empty)} class folder(s) of {str(root)!r} without images: {name_some(empty)}; "
            f"{_LAYOUT}: add images, or remove these folders from all splits"
        )
    return tuple(files)


def _scan_class(
    root: pathlib.Path, folder: str, label: str, digest: "hashlib._Hash"
) -> list[ImageFile]:
    files = []
    with os.scandir(root / folder) as entries:
        visible = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    _refuse(root, folder, [e.name for e in visible if e.is_dir() or _is_other_picture(e.name)])
    for entry in visible:
        if entry.name.lower().endswith(_SUFFIXES):
            status = entry.stat()
            name = f"{folder}/{entry.name}"
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(*_ANY_NAME))
            files.append(ImageFile(name, label, status.st_size))
    return files


# File names need not be valid Unicode.
_ANY_NAME = ("utf-8", "surrogateescape")


def _names(folder: pathlib.Path, folders: bool = False) -> list[str]:
    """Names of what is in a folder, sorted, without hidden ones; of folders alone if asked."""
    with os.scandir(folder) as entries:
        return sorted(
            e.name for e in entries if not e.name.startswith(".") and (e.is_dir() or not folders)
        )


def _is_other_picture(name: str) -> bool:
    return name.lower().endswith(_OTHER_PICTURES)


def _is_picture(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES) or _is_other_picture(name)


def _refuse(root: pathlib.Path, folder: str, names: list[str]) -> None:
    if names:
        raise ValueError(
            f"folder {folder!r} of {str(root)!r} has {len(names)} entries that would be left out: "
            f"{name_some(names)}; {_LAYOUT}: move, convert or remove them"
        )


def _check_classes(path: str, train: list[str], test: list[str], split: str) -> None:
    only_train = [name for name in train if name not in set(test)]
    only_test = [name for name in test if name not in set(train)]
    if only_train or only_test:
        raise ValueError(
            f"the classes of image folder {path!r} differ: only in train: {name_some(only_train)}; "
            f"only in {split}: {name_some(only_test)}; expected the same class folders in both"
        )
