"""Names of the networks that come with the package: those of the runs that trained them."""

from __future__ import annotations

import difflib
from pathlib import Path

DIRECTORY = Path(__file__).parent
SUFFIX = ".safetensors"
# What a short name, SCALE/ROW, leaves out: of table 5, the padding of 4, the first seed.
_SHORT = "{scale}/table5/*/{row}/seed0"


def published_names() -> list[str]:
    """The networks that come with the package.

    Returns:
      Names such as ``'small/table5/digits/lc-ws1/seed0'``, sorted.

    Example:
      >>> all(name.startswith("small/") for name in published_names())
      True
    """
    return sorted(map(_name_of, DIRECTORY.rglob(f"*{SUFFIX}")))


def find_published(name: str) -> tuple[str, Path]:
    """Looks a published network up.

    Args:
      name: of its run; the seed may be left out for seed 0. ``'small/lc-ws1'`` is short for the row
        of table 5, with its padding of 4.

    Returns:
      The whole name, and the file.

    Raises:
      ValueError: there is no such network.

    Example:
      >>> find_published("small/lc-ws3")  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      ValueError: no published network, file or run is called 'small/lc-ws3'...
    """
    parts = name.strip("/").split("/")
    patterns = [name.strip("/"), f"{name.strip('/')}/seed0"]
    if len(parts) == 2:
        patterns.append(_SHORT.format(scale=parts[0], row=parts[1]))
    for known in published_names():
        if any(Path(known).match(pattern) for pattern in patterns if len(parts) > 1):
            return known, DIRECTORY / f"{known}{SUFFIX}"
    raise ValueError(f"no published network, file or run is called {name!r}{_hint(name)}")


def _hint(name: str) -> str:
    """Names that are like another one, or all in short."""
    whole = published_names()
    short = {_short(known): known for known in whole}
    near = difflib.get_close_matches(name, [*short, *whole], n=2, cutoff=0.6)
    if near:
        return f": did you mean {' or '.join(map(repr, near))}?"
    return f"; there are the networks {', '.join(short)}." if short else "."


def _short(name: str) -> str:
    """The shortest name that finds a network."""
    scale, table, _, row, seed = name.split("/")
    return f"{scale}/{row}" if (table, seed) == ("table5", "seed0") else name


def _name_of(path: Path) -> str:
    return path.relative_to(DIRECTORY).with_suffix("").as_posix()
