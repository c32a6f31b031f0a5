"""Preparing a TFDS data set on disk without TensorFlow: all of it or nothing.

TFDS writes into a directory with a random name and renames it once it is whole, so neither an
interruption nor a second process leaves half a data set under the final name. This module adds
what is missing: a base class that writes ArrayRecord without a word about downloads, a loser of
the race that takes the winner's copy, the removal of what a killed process left, and errors that
say what to do.
"""

import pathlib
import shutil
import tempfile
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from jaxws.data.sources.locks import claim, remove_abandoned
from jaxws.data.sources.opened import open_directory


class ArrayRecordBuilder:
    """Mixin, before TFDS's class, for builders whose data comes from files at hand."""

    def __init__(self, **kwargs: Any) -> None:
        """Takes the arguments of ``tfds.core.DatasetBuilder``; the file format is array_record."""
        # The default format, TFRecord, cannot be written without TensorFlow.
        super().__init__(**({"file_format": tfds.core.FileFormat.ARRAY_RECORD} | kwargs))

    def _download_and_prepare(self, **arguments: Any) -> None:
        """TFDS's writer of shards that are given; ``data_dir`` is the temporary one meanwhile."""
        with claim(pathlib.Path(self.data_dir)):  # type: ignore[attr-defined]
            tfds.core.ShardBasedBuilder._download_and_prepare(self, **arguments)

    # TFDS prints to stdout that it is downloading; nothing is.
    def _log_download_bytes(self) -> None:
        logging.info("Preparing %s", type(self).__name__)

    def _log_download_done(self) -> None:
        logging.info("Prepared %s", type(self).__name__)


class LocalBuilder(ArrayRecordBuilder, tfds.core.ShardBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of the builders of digits and folders.

    A shard-based builder streams, where TFDS's generator-based one needs TensorFlow to shuffle
    more than 1 GB.
    """

    def _create_builder_config(self, builder_config: Any, version: Any) -> Any:
        # A config object is taken as it is: TFDS would warn that it is not in a fixed list.
        if isinstance(builder_config, tfds.core.BuilderConfig):
            return builder_config
        return super()._create_builder_config(builder_config, version)


def data_root(data_dir: str | None) -> pathlib.Path:
    """The directory of all TFDS data.

    Args:
      data_dir: the directory, or None for TFDS's default (the environment variable
        TFDS_DATA_DIR, or ~/tensorflow_datasets).

    Returns:
      Its path, with ``~`` expanded.

    Raises:
      ValueError: if there is no home directory.

    Example:
      >>> data_root("/data/tfds").as_posix()
      '/data/tfds'
    """
    directory = pathlib.Path(data_dir or tfds.core.constants.DATA_DIR)
    try:
        return directory.expanduser()
    except RuntimeError as error:  # neither HOME nor an entry in the list of users
        raise ValueError(
            f"there is no home directory for {directory}: set --config.data.data_dir=DIR, or "
            "TFDS_DATA_DIR"
        ) from error


def is_whole(directory: pathlib.Path) -> bool:
    """Whether a data set has been prepared in a directory to the end.

    Example:
      >>> is_whole(pathlib.Path("/nowhere"))
      False
    """
    names = ("dataset_info.json", "features.json")
    return all((directory / name).is_file() for name in names)


def prepare(
    builder: tfds.core.DatasetBuilder, remedy: str = "--config.data.data_dir=DIR"
) -> tfds.core.DatasetBuilder:
    """Prepares a data set unless it is there, and opens it.

    Safe to call from several processes at once: each writes its own copy, the first one done
    gives its copy the final name, and all of them read that one.

    Args:
      builder: the builder, with the data directory it was given.
      remedy: how to give another directory, for the message.

    Returns:
      A builder that reads the prepared data set.

    Raises:
      ValueError: if the directory cannot be written.
    """
    directory = pathlib.Path(builder.data_dir)
    if not is_whole(directory):
        try:
            _check_writable(directory.parent)
            remove_abandoned(directory.parent)
            _remove_remains(directory)
            builder.download_and_prepare()
        # array_record raises RuntimeError when the disk is full.
        except (OSError, RuntimeError) as error:
            # Another process may have been first; then its copy has the name ours wanted.
            if not is_whole(directory):
                raise ValueError(
                    f"cannot prepare the data set {builder.name!r} in {directory} "
                    f"({type(error).__name__}: {error}); give a directory with room that can be "
                    f"written: {remedy}"
                ) from error
    return open_directory(directory)


def _check_writable(directory: pathlib.Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory):
        pass


def _remove_remains(directory: pathlib.Path) -> None:
    """Makes way where something other than TFDS left a part, such as a copy that broke off."""
    if not directory.exists() or is_whole(directory):
        return
    # Moved before it is looked at again: another process may just have put a whole one there.
    aside = pathlib.Path(tempfile.mkdtemp(prefix="incomplete.", dir=directory.parent))
    directory.rename(aside / "remains")
    if is_whole(aside / "remains"):
        (aside / "remains").rename(directory)
    else:
        logging.warning("%s was not a whole data set: preparing it anew", directory)
    shutil.rmtree(aside)
