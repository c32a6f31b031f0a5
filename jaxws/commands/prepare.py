"""Prepare cifar10, cifar100, tiny_imagenet or imagenet2012 for training, without TensorFlow.

What can be downloaded is, unless --manual_dir says where the official archive lies.
"""

from __future__ import annotations

import argparse
import difflib
import pathlib
import shlex
import shutil
from typing import Any

import tensorflow_datasets as tfds

from jaxws.data.sources import cifar, imagenet, tiny_imagenet
from jaxws.data.sources.digits import Builder as DigitsBuilder
from jaxws.data.sources.download import download
from jaxws.data.sources.official import OFFICIAL, Official, missing_images, verify
from jaxws.data.sources.opening import open_directory
from jaxws.data.sources.prepare import data_root, is_whole, prepare
from jaxws.system.local_path import path_text
from jaxws.system.text import say, size_text

_BUILDERS: dict[str, Any] = {
    "cifar10": cifar.Cifar10,
    "cifar100": cifar.Cifar100,
    "tiny_imagenet": tiny_imagenet.Builder,
    "imagenet2012": imagenet.Builder,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments.

    Args:
      parser: of this command.
    """
    parser.add_argument("name", metavar="NAME", help=", ".join(_BUILDERS))
    parser.add_argument(
        "--data_dir", type=path_text, help="of all TFDS data; by default ~/tensorflow_datasets"
    )
    parser.add_argument(
        "--manual_dir", type=path_text, help="where official archives lie; nothing is downloaded"
    )


def run(args: argparse.Namespace) -> int:
    """Prepares a data set, or says that it is there.

    Args:
      args: ``name``, ``data_dir``, ``manual_dir``.

    Returns:
      The exit code.

    Raises:
      ValueError: what is wrong, in one line.
    """
    root = data_root(args.data_dir)
    if args.name == "digits":
        say("digits comes with the package and is prepared by the first run; nothing to do.")
        prepare(DigitsBuilder(data_dir=str(root)), remedy="--data_dir=DIR")
        return 0
    if args.name not in OFFICIAL:
        close = difflib.get_close_matches(args.name, OFFICIAL, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}?" if close else "a folder of images needs no preparing"
        raise ValueError(f"{args.name!r} is not one of {', '.join(OFFICIAL)}: {hint}")
    facts = OFFICIAL[args.name]
    directory = root / args.name / facts.version
    if is_whole(directory):
        say(f"{args.name} has been prepared before.")
    else:
        _check_room(args.name, facts, root, args.manual_dir)
        archive = _find_archive(args.name, facts, root, args.manual_dir)
        say(f"preparing {args.name} from {archive} in {directory}")
        tfds.disable_progress_bar()
        prepare(_BUILDERS[args.name](archive, data_dir=str(root)), remedy="--data_dir=DIR")
    _report(args, facts, directory)
    return 0


def _find_archive(
    name: str, facts: Official, root: pathlib.Path, manual_dir: str | None
) -> pathlib.Path:
    """The verified archive; the directory of several ones for ImageNet."""
    if facts.manual and manual_dir is None:
        raise ValueError(f"{name} cannot be downloaded without an account: {facts.manual}=DIR")
    if manual_dir is None:
        archive = facts.archives[0]
        if not (root / "downloads" / name / archive.file_name).exists():
            say(f"downloading {archive.url}, {size_text(archive.size)}")
        return download(archive, root / "downloads" / name)
    folder = pathlib.Path(manual_dir).expanduser()
    found = [archive for archive in facts.archives if (folder / archive.file_name).is_file()]
    if facts.manual:
        if facts.archives[0] not in found:
            raise ValueError(f"{folder} has no {facts.archives[0].file_name}: {facts.manual}=DIR")
        return folder
    if not found:
        names = " or ".join(archive.file_name for archive in facts.archives)
        raise ValueError(
            f"{folder} has no {names}: download {facts.archives[0].url} into it, or leave out "
            "--manual_dir"
        )
    verify(found[0], folder / found[0].file_name)
    return folder / found[0].file_name


def _check_room(name: str, facts: Official, root: pathlib.Path, manual_dir: str | None) -> None:
    if facts.manual:  # The archives may hold part of the images.
        files = [pathlib.Path(manual_dir or ".") / a.file_name for a in facts.archives]
        need = sum(file.stat().st_size for file in files if file.is_file())
    else:
        need = facts.disk_bytes + (0 if manual_dir else _left_to_download(name, facts, root))
    place = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < need:
        raise ValueError(
            f"{name} needs about {size_text(need)} in {root}, where {size_text(free)} are free: "
            "make room or give another --data_dir"
        )


def _left_to_download(name: str, facts: Official, root: pathlib.Path) -> int:
    archive = facts.archives[0]
    path = root / "downloads" / name / archive.file_name
    parts = (path, path.with_name(path.name + ".part"))
    return max(0, archive.size - sum(part.stat().st_size for part in parts if part.is_file()))


def _report(args: argparse.Namespace, facts: Official, directory: pathlib.Path) -> None:
    builder = open_directory(directory)
    say(f"{args.name} is in {directory}")
    counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    for split in facts.images:
        say(f"  {split}: {counts.get(split, 0)} images")
    if missing := missing_images(args.name, counts):
        say(
            f"warning: there are {missing}; for all of them, remove {directory} and prepare again "
            "with the whole archives"
        )
    flag = f" --config.data.data_dir={shlex.quote(args.data_dir)}" if args.data_dir else ""
    say(f"train with: python -m jaxws train --config={facts.config}{flag}")
