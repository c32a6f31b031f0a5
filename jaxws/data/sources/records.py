"""The records of a prepared TFDS split, one by one and still encoded."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from jaxws.data.sources.features import feature_keys


class Record(NamedTuple):
    """An image as it lies on disk.

    Attributes:
      data: bytes of the image file.
      label: its class.
      name: says which record of which data set it is, for errors.
    """

    data: bytes
    label: int
    name: str


class Records:
    """Random access to the records of a split, for many threads or processes.

    Attributes:
      name: name of the data set with its version, and of the split.
      channels: 1 or 3, what its images are to be decoded to.
      num_classes: labels are smaller than this.

    Example:
      >>> import tempfile
      >>> from jaxws.data.sources.digits import Builder
      >>> from jaxws.data.sources.prepare import prepare
      >>> records = Records(prepare(Builder(data_dir=tempfile.mkdtemp())), "train")
      >>> len(records), records[3].label, records.channels, records.num_classes
      (1437, 2, 1, 10)
    """

    def __init__(
        self, builder: tfds.core.DatasetBuilder, split: str, rows: np.ndarray | None = None
    ):
        """Opens a split; nothing is read yet.

        Args:
          builder: a prepared data set with an image and a label, stored as array_record.
          split: name of the split.
          rows: the records to use, by number, in this order; None for all of them.

        Raises:
          ValueError: if the data set has no image or label, or the split no record.
        """
        self._image_key, self._label_key = feature_keys(builder)
        features = builder.info.features
        self.channels: int = features[self._image_key].shape[-1] or 3
        self.num_classes: int = features[self._label_key].num_classes
        self.name = f"split {split!r} of {builder.info.full_name}"
        self._directory = str(builder.data_dir)
        self._rows = None if rows is None else np.asarray(rows, np.int64)
        decoders = {self._image_key: tfds.decode.SkipDecoding()}
        self._source = builder.as_data_source(split, decoders=decoders)
        if not len(self):
            raise ValueError(f"{self.name} in {self._directory} has no images")

    def __len__(self) -> int:
        """The number of records."""
        return len(self._source) if self._rows is None else len(self._rows)

    def __getitem__(self, index: int) -> Record:
        """Reads a record.

        Args:
          index: 0 to ``len(self) - 1``.

        Returns:
          The record.

        Raises:
          ValueError: if the file is damaged or the label is none.
        """
        row = int(index if self._rows is None else self._rows[index])
        try:
            fields = self._source[row]
        # array_record reports damage as IndexError, RuntimeError, ...
        except (OSError, RuntimeError, IndexError) as error:
            raise ValueError(
                f"record {row} of {self.name} in {self._directory} cannot be read ({error}): delete"
                " that directory and prepare the data set anew"
            ) from error
        label = int(fields[self._label_key])
        name = self._name(row, fields)
        if not 0 <= label < self.num_classes:
            raise ValueError(
                f"{name} has the label {label}, expected 0 to {self.num_classes - 1} (-1 stands for"
                " images without a label): choose a data set with labels"
            )
        return Record(fields[self._image_key], label, name)

    def _name(self, row: int, fields: dict[str, Any]) -> str:
        file = fields.get("file_name")
        file = file.decode(errors="replace") if isinstance(file, bytes) else file
        return f"record {row} of {self.name}" + (f" ({file})" if file else "")
