"""Finding a data set that TFDS has prepared before, by its name, without its code or a download."""

import difflib
import pathlib
import re
import shlex

import tensorflow_datasets as tfds
from absl import logging

from jaxws.data.sources.official import OFFICIAL, missing_images
from jaxws.data.sources.opening import open_directory
from jaxws.data.sources.prepare import is_whole
from jaxws.system.text import size_text

_NAME = re.compile(r"(?P<name>\w+)(/(?P<config>[\w.\-]+))?(:(?P<version>\d+\.\d+\.\d+))?")


def open_prepared(name: str, root: pathlib.Path) -> tfds.core.DatasetBuilder:
    """Opens a prepared TFDS data set.

    Args:
      name: a TFDS name: 'cifar10', 'cifar10:3.0.2' or 'imagenet_resized/32x32'. Without a
        version the newest one is taken.
      root: the directory of all TFDS data.

    Returns:
      A builder that reads it. An official data set that is there in part is told in the log.

    Raises:
      ValueError: if the name is unknown, or the data set has not been prepared or not as
        array_record, the format that can be read without TensorFlow.
    """
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise ValueError(
            f"data.name is {name!r}, expected 'digits', 'folder', or a TFDS name such as "
            "'cifar10', 'cifar10:3.0.2' or 'imagenet_resized/32x32'"
        )
    base = root / parts["name"]
    _check_known(parts["name"], root)
    folder = base / parts["config"] if parts["config"] else _only_config(name, base)
    versions = [
        version for version in _versions(folder) if parts["version"] in (None, version.name)
    ]
    if not versions:
        raise ValueError(_missing(name, parts["name"], folder, root))
    builder = open_directory(versions[-1])
    _check_format(name, builder)
    counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    if missing := missing_images(builder.name, counts):
        logging.warning("Data set %r is a part: %s in %s", name, missing, versions[-1])
    return builder


def _missing(name: str, base: str, folder: pathlib.Path, root: pathlib.Path) -> str:
    """What to do about a data set that is not there."""
    start = f"data set {name!r} has not been prepared in {folder}; nothing is downloaded here. "
    if base not in OFFICIAL:
        return start + (
            "Either set --config.data.path=FOLDER to a folder of images (train/CLASS/IMAGE.jpg, "
            f"test/CLASS/IMAGE.jpg), or run `tfds build {base} --file_format=array_record "
            f"--data_dir={root}` where TensorFlow is installed, or point --config.data.data_dir "
            "to where it has been prepared"
        )
    facts = OFFICIAL[base]
    command = f"python -m jaxws prepare {base} --data_dir={shlex.quote(str(root))}"
    if facts.manual:
        command += " --manual_dir=DIR"
        source = f"first {facts.manual}"
    else:
        source = f"{size_text(facts.archives[0].size)} to download"
    return start + (
        f"Run `{command}` ({source}; {size_text(facts.disk_bytes)} on disk), or point "
        "--config.data.data_dir to where it has been prepared, or set --config.data.path=FOLDER "
        "to a folder of images"
    )


def _check_known(name: str, root: pathlib.Path) -> None:
    """Tells a misspelt name from a data set that is only not there."""
    prepared = {path.name for path in root.iterdir() if path.is_dir()} if root.is_dir() else set()
    # Names only: this imports no data set's code, and no TensorFlow.
    ours = {*OFFICIAL, "digits", "folder"}
    known = {*tfds.list_builders(with_community_datasets=False)} | ours
    if name not in known | prepared:
        close = difflib.get_close_matches(name, ours | (prepared - {"downloads"}), n=1)
        close = close or difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "check the spelling"
        raise ValueError(
            f"no data set is called {name!r}: {hint} (expected 'digits', 'folder', or a name of "
            f"TensorFlow Datasets; {root} was searched as well)"
        )


def _only_config(name: str, base: pathlib.Path) -> pathlib.Path:
    """The folder of the versions: that of the data set itself, or of its only config."""
    if _versions(base) or not base.is_dir():
        return base
    configs = sorted(path for path in base.iterdir() if path.is_dir() and _versions(path))
    if len(configs) > 1:
        raise ValueError(
            f"data set {name!r} has been prepared in several configs "
            f"({', '.join(path.name for path in configs)}): name one, for example "
            f"--config.data.name={base.name}/{configs[0].name}"
        )
    return configs[0] if configs else base


def _versions(folder: pathlib.Path) -> list[pathlib.Path]:
    """Folders of the versions that are whole, the newest last."""
    if not folder.is_dir():
        return []
    valid = tfds.core.Version.is_valid
    found = [path for path in folder.iterdir() if valid(path.name) and is_whole(path)]
    return sorted(found, key=lambda path: tfds.core.Version(path.name))


def _check_format(name: str, builder: tfds.core.DatasetBuilder) -> None:
    formats = builder.info.available_file_formats()
    if tfds.core.FileFormat.ARRAY_RECORD not in formats:
        have = ", ".join(sorted(form.value for form in formats))
        raise ValueError(
            f"data set {name!r} has been prepared as {have} in {builder.data_dir}, expected "
            "array_record, which can be read without TensorFlow: prepare it again with "
            f"`tfds build {builder.name} --file_format=array_record` in another --data_dir, or "
            "convert it with `tfds convert_format`"
        )
