"""Opening what TFDS has prepared in a directory."""

import pathlib

import tensorflow_datasets as tfds


def open_directory(directory: pathlib.Path) -> tfds.core.DatasetBuilder:
    """Opens a prepared data set without its code.

    Args:
      directory: of a version of it, which holds ``dataset_info.json``.

    Returns:
      A builder that reads it.

    Raises:
      ValueError: if a file there that describes it is damaged.

    Example:
      >>> try:
      ...     open_directory(pathlib.Path("/nowhere/1.0.0"))
      ... except ValueError as error:
      ...     print(str(error)[:62])
      the prepared data set in '/nowhere/1.0.0' cannot be opened (Da
    """
    try:
        return tfds.builder_from_directory(str(directory))
    except MemoryError:
        raise
    except Exception as error:  # TFDS reads JSON, lines of names, ...: damage raises anything.
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(
            f"the prepared data set in {str(directory)!r} cannot be opened ({text[:200]}): delete "
            "that directory and prepare the data set anew"
        ) from error
