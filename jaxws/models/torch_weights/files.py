"""Files of weights, ``.safetensors``, ``.npz``, ``torch.save``'s: nothing that is in them runs.

A file of ``torch.save`` is a pickle, which may hold any code. PyTorch reads it with
``weights_only``: tensors and plain containers, and of classes only those that are named here.
PyTorch is needed for nothing else.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from jaxws.models.exported import KEY

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"  # torch.save's format since PyTorch 1.6, and before
_HEADER = b"\0\0\0\0{"  # of safetensors, after four of the bytes of its length
_HARMLESS = (argparse.Namespace,)  # of a training script's flags
# Those of safetensors that NumPy calls otherwise, or has not.
_DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
}
_LONGEST = 200  # characters of a reason


def read_weights_file(path: str | Path) -> Mapping[str, Any]:
    """Reads a file of weights.

    Args:
      path: of a ``.safetensors`` file; of one that ``torch.save`` wrote (``.pth``, ``.pt``,
        ``.bin``, ``.ckpt``), also before PyTorch 1.6, which needs PyTorch; or of NumPy's ``.npz``.
        What it is, its first bytes tell.

    Returns:
      What is in it: a state dict, or a checkpoint that has one, of NumPy arrays or tensors; of a
      ``.safetensors`` also the description that an export has, as its ``.npz`` do.

    Raises:
      ValueError: there is no such file, it is damaged, no file of weights, or holds objects of
        which reading would run code; the package is not installed.

    Example:
      >>> read_weights_file("no_such.pth")
      Traceback (most recent call last):
      ValueError: no_such.pth cannot be read: No such file or directory.
    """
    path = Path(path).expanduser()
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    if not start:
        raise ValueError(f"{path} is empty.")
    if start[4:] == _HEADER:  # the length before it may begin as a pickle does
        return _read_safetensors(path)
    if start.startswith(_ZIP) and path.suffix.lower() == ".npz":
        return _read_npz(path)
    if start.startswith((_ZIP, _PICKLE)):
        return _read_torch(path, is_zip=start.startswith(_ZIP))
    if start[8:9] == b"{" or path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    raise ValueError(
        f"{path} is no file of weights: it begins with {start!r}; expected what torch.save or"
        " safetensors wrote."
    )


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        tensors = safetensors.deserialize(path.read_bytes())
        with safetensors.safe_open(path, framework="numpy") as file:
            described = {key: text for key, text in (file.metadata() or {}).items() if key == KEY}
        return {name: _array(tensor) for name, tensor in tensors} | described
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    except Exception as error:  # SafetensorError has no base class but this
        raise ValueError(
            f"{path} is no whole file of safetensors: {_one_line(str(error))}."
        ) from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file) as arrays:  # refuses pickles
            return dict(arrays)
    except Exception as error:  # zipfile.BadZipFile, zlib.error, ValueError, ...
        raise ValueError(
            f"{path} is no whole file of numpy.savez: {_one_line(str(error))}."
        ) from error


def _array(tensor: Mapping[str, Any]) -> np.ndarray:
    name = tensor["dtype"]
    dtype = _DTYPES.get(name) or np.dtype(f"{name[0].lower()}{int(name[1:]) // 8}")  # F32: f4
    return np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])


def _read_torch(path: Path, is_zip: bool) -> Mapping[str, Any]:
    if importlib.util.find_spec("torch") is None:
        raise ValueError(f"{path} needs torch, which is not installed: pip install torch.")
    import torch  # noqa: PLC0415 - an optional dependency

    try:
        if is_zip:
            _check_zip(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals([*_HARMLESS]):
            warnings.simplefilter("ignore")  # of old formats
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many classes, for a file that may be anything
        raise ValueError(f"{path} {_reason(error)}") from error
    if not isinstance(loaded, Mapping):
        raise ValueError(
            f"{path} holds a {type(loaded).__name__}: expected a state dict, as in"
            " torch.save(module.state_dict(), path)."
        )
    return loaded


def _check_zip(path: Path) -> None:
    """PyTorch does not compare checksums."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if not any(name.endswith("/data.pkl") for name in names):
            raise ValueError("is a zip file of something else: torch.save writes data.pkl")
        if any("/code/" in name for name in names):
            raise ValueError("is a TorchScript program: save module.state_dict() instead")
        if (part := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"the checksum of {part} in it is wrong")


def _reason(error: Exception) -> str:
    text = str(error)
    if isinstance(error, ValueError) and text.startswith("is a "):
        return f"{text}."
    if found := re.search(r"GLOBAL (\S+)", text):
        return (
            f"holds an object of class {found[1]}, which is not read, as it could run code: save"
            " tensors alone, as in torch.save(module.state_dict(), path)."
        )
    if "Unsupported operand" in text or "unpickl" in type(error).__name__.lower():
        return "is damaged, or a pickle of something else than torch.save's."
    reason = "it ends too early" if isinstance(error, EOFError) else _one_line(text)
    return f"is damaged or no file of torch.save: {reason or type(error).__name__}."


def _one_line(text: str) -> str:
    first = " ".join(text.split()).partition(". ")[0]
    return first[:_LONGEST].rstrip(".")
