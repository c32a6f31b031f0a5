"""What kept a checkpoint from being written, and what helps against that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from errno import (
    EACCES,
    ECONNABORTED,
    EDQUOT,
    EFBIG,
    EIO,
    EMFILE,
    ENAMETOOLONG,
    ENFILE,
    ENOENT,
    ENOSPC,
    ENOTCONN,
    ENOTDIR,
    EPERM,
    EROFS,
    ESTALE,
    ETIMEDOUT,
)
from typing import NamedTuple

from jaxws.system.text import one_line

_ROOM = "make room"
_ALLOW = "let this user write there"
_MOUNT = "see to the disk or its server"
_ADVICE = {
    **dict.fromkeys((ENOSPC, EDQUOT), _ROOM),
    **dict.fromkeys((EACCES, EPERM, EROFS), _ALLOW),
    **dict.fromkeys((EIO, ESTALE, ENOTCONN, ECONNABORTED, ETIMEDOUT), _MOUNT),
    **dict.fromkeys((EMFILE, ENFILE), "allow more open files (ulimit -n)"),
    **dict.fromkeys((ENOENT, ENOTDIR), "bring the directory back"),
    EFBIG: "allow larger files (ulimit -f, or the file system)",
    ENAMETOOLONG: "give a shorter --workdir",
}


class Failure(NamedTuple):
    """Why a checkpoint was not written.

    Attributes:
      cause: in few words.
      advice: what to do, which goes before "and give the same command once more".
    """

    cause: str
    advice: str


def explain(error: BaseException) -> Failure:
    """Finds the first cause of an error of Orbax, which wraps those of others.

    Args:
      error: what was raised.

    Returns:
      The cause and what helps.

    Example:
      >>> explain(OSError(ENOSPC, "No space left on device"))
      Failure(cause='No space left on device', advice='make room')
      >>> explain(RuntimeError("Error writing local file: Permission denied")).advice
      'let this user write there'
    """
    chain = list(_chain(error))
    for each in reversed(chain):
        if isinstance(each, OSError) and each.errno in _ADVICE:
            return Failure(os.strerror(each.errno), _ADVICE[each.errno])
    text = " ".join(map(one_line, chain))
    for number, advice in _ADVICE.items():
        if os.strerror(number) in text:
            return Failure(os.strerror(number), advice)
    if any(isinstance(each, TimeoutError) for each in chain) or "DEADLINE_EXCEEDED" in text:
        return Failure(
            "it took longer than is waited for, by the system's clock",
            "see whether the clock was set or the disk did not answer",
        )
    return Failure(one_line(error)[:200] or type(error).__name__, "see to that")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
