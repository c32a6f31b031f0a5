"""What a folder of images holds: splits, classes, files, and a fingerprint of it all."""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import unicodedata

from absl import logging

from jaxws.data.sources.image_files import (
    ImageFile,
    describe,
    is_image_name,
    is_other_picture,
)
from jaxws.data.sources.names import check_class_names, name_some, shown

TEST_FOLDERS = ("test", "val", "validation")
_LAYOUT = "expected train/CLASS/IMAGE.jpg (or .jpeg, .png) and test/CLASS/IMAGE.jpg"


@dataclasses.dataclass(frozen=True)
class Folder:
    """What was found in a folder.

    Attributes:
      path: the folder.
      class_names: names of the classes, exactly those of their folders, sorted; the label of a
        class is its position.
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
    hidden ones are left out, and where these are folders of images a warning says so. ``val`` or
    ``validation`` stands in where there is no ``test``.

    Args:
      path: the folder.

    Returns:
      What it holds. No image has been opened yet.

    Raises:
      ValueError: if the folder is missing or laid out in another way, has one class alone, or
        classes whose names cannot be kept.

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
    classes = {split: _class_folders(root, split) for split in ("train", test)}
    _check_classes(path, classes["train"], classes[test], test)
    digest = hashlib.sha256()
    splits = {split: _scan_split(root, split, classes[split], digest) for split in classes}
    return Folder(
        path=root,
        class_names=tuple(classes["train"]),
        train=splits["train"],
        test=splits[test],
        fingerprint=digest.hexdigest()[:16],
    )


def _class_folders(root: pathlib.Path, split: str) -> list[str]:
    with os.scandir(root / split) as entries:
        found = sorted(entries, key=lambda e: e.name)
    visible = [e for e in found if not e.name.startswith(".")]
    # A link to a folder that is gone, or on a disk that is not there, was a class.
    lost = [e.name for e in visible if e.is_symlink() and not os.path.exists(e.path)]
    files = [e.name for e in visible if _is_picture(e.name) and not e.is_dir()]
    _refuse(root, split, sorted({*lost, *files}))
    classes = [e.name for e in visible if e.is_dir()]
    if not classes:
        raise ValueError(f"folder {str(root / split)!r} has no class folders, {_LAYOUT}")
    check_class_names(classes, f"folder {str(root / split)!r}", "rename these folders")
    hidden = [e.name for e in found if e.name.startswith(".") and e.is_dir() and _has_images(e)]
    if hidden:
        logging.warning(
            "Left out hidden folders of images in %r: %s", str(root / split), name_some(hidden)
        )
    return classes


def _has_images(folder: "os.DirEntry[str]") -> bool:
    with contextlib.suppress(OSError), os.scandir(folder.path) as entries:
        return any(_is_picture(e.name) and not e.name.startswith(".") for e in entries)
    return False


def _scan_split(
    root: pathlib.Path, split: str, classes: list[str], digest: "hashlib._Hash"
) -> tuple[ImageFile, ...]:
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
    _refuse(root, folder, [e.name for e in visible if _would_be_left_out(e)])
    for entry in visible:
        if is_image_name(entry.name):
            files.append(describe(entry, f"{folder}/{entry.name}", label, digest))
    return files


def _names(folder: pathlib.Path) -> list[str]:
    """Names of what is in a folder, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if not e.name.startswith("."))


def _would_be_left_out(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry of a class folder may hold images that are not looked for there."""
    in_folder = entry.is_dir() and not is_image_name(entry.name)
    return in_folder or is_other_picture(entry.name)


def _is_picture(name: str) -> bool:
    return is_image_name(name) or is_other_picture(name)


def _refuse(root: pathlib.Path, folder: str, names: list[str]) -> None:
    if names:
        raise ValueError(
            f"folder {folder!r} of {str(root)!r} has {len(names)} entries that would be left out: "
            f"{name_some(names)}; {_LAYOUT}: move, convert or remove them"
        )


def _check_classes(path: str, train: list[str], test: list[str], split: str) -> None:
    only_train, only_test = sorted({*train} - {*test}), sorted({*test} - {*train})
    if only_train or only_test:
        # The same to the eye, but other code points: an accent of its own, say.
        alike = {_composed(name) for name in only_train} & {_composed(name) for name in only_test}
        only_train, only_test = (
            [ascii(name) if _composed(name) in alike else shown(name) for name in names]
            for names in (only_train, only_test)
        )
        raise ValueError(
            f"the classes of image folder {path!r} differ: only in train: {name_some(only_train)}; "
            f"only in {split}: {name_some(only_test)}; expected the same class folders in both"
        )
    if len(train) == 1:
        raise ValueError(
            f"image folder {path!r} has one class, {shown(train[0])}, in which every answer is "
            f"right: expected two or more. {_LAYOUT[0].upper()}{_LAYOUT[1:]}: is train/{train[0]} "
            "a folder of classes?"
        )


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
