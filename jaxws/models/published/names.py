"""Names of the networks that come with the package: those of the runs that trained them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

DIRECTORY = Path(__file__).parent
SUFFIX = ".safetensors"


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
    known = {alias: whole for whole in published_names() for alias in _aliases(whole)}
    if name not in known:
        raise ValueError(
            f"no published network, file or run is called {name!r}{_hint(name, known)}"
        )
    return known[name], DIRECTORY / f"{known[name]}{SUFFIX}"


def _aliases(name: str) -> list[str]:
    """What a network may be called, in short first."""
    scale, table, _, row, seed = name.split("/")
    if seed != "seed0":
        return [name]
    short = [f"{scale}/{row}"] if table == "table5" else []
    return [*short, name.removesuffix("/seed0"), name]


def _hint(name: str, known: Iterable[str]) -> str:
    """Names that are like another one, or the shortest of all."""
    if near := difflib.get_close_matches(name, known, n=2, cutoff=0.6):
        return f": did you mean {' or '.join(map(repr, near))}?"
    listed = [_aliases(whole)[0] for whole in published_names()]
    return f"; there are the networks {', '.join(listed)}." if listed else "."


def _name_of(path: Path) -> str:
    return path.relative_to(DIRECTORY).with_suffix("").as_posix()
