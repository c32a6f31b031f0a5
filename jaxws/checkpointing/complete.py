"""Whether a checkpoint that was just written has all that restoring it reads."""

from __future__ import annotations

from collections.abc import Collection
from errno import ENOENT
from pathlib import Path

import tensorstore as ts

from jaxws.checkpointing.plain_path import plain_path

_STATE = "state"
_NEEDED = (f"{_STATE}/_METADATA", f"{_STATE}/manifest.ocdbt", "run/metadata")


def check_complete(directory: Path, arrays: Collection[str]) -> None:
    """Raises if a checkpoint could not be restored, whatever Orbax says about its writing.

    The list of arrays that restoring looks into is read back; arrays themselves are not.

    Args:
      directory: of the checkpoint.
      arrays: names of those that were to be written, as in its metadata.

    Raises:
      OSError: something is missing.
    """
    for name in _NEEDED:
        if not (directory / name).is_file():
            raise FileNotFoundError(ENOENT, "it would lack a file", str(directory / name))
    with plain_path(directory) as plain:
        base = {"driver": "file", "path": f"{plain / _STATE}/"}
        store = ts.KvStore.open({"driver": "ocdbt", "base": base}).result()
        written = {key.decode().rpartition("/")[0] for key in store.list().result()}
    missing = sorted(name for name in arrays if name.replace("/", ".") not in written)
    if missing:
        raise OSError(f"it would lack {len(missing)} of {len(arrays)} arrays, such as {missing[0]}")
