"""Arguments of actions that train: how many runs at once, which part of them, with which fields."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from jaxws.commands.parse_config import parse_config
from jaxws.config.fields import flat_fields
from jaxws.paper.jobs import check_settable

T = TypeVar("T")


def add_execution(parser: argparse.ArgumentParser) -> None:
    """Adds ``--jobs``, ``--shard``, ``--retry`` and ``--config.FIELD``.

    Args:
      parser: of an action.
    """
    parser.set_defaults(overrides=[])
    parser.add_argument(
        "--jobs",
        type=_positive,
        metavar="N",
        help="runs at once (default: one on each GPU; on a CPU one on each core for small networks,"
        " or one on all cores)",
    )
    parser.add_argument(
        "--shard",
        type=_shard,
        default=(1, 1),
        metavar="I/N",
        help="the I-th of N parts of the runs, such as 1/4, to divide them among machines",
    )
    parser.add_argument(
        "--retry", action="store_true", help="go on with runs that have diverged, too"
    )


def share_of(items: Sequence[T], shard: tuple[int, int]) -> Sequence[T]:
    """The part of a list that ``--shard`` asks for.

    Args:
      items: all of them, the same for every part.
      shard: which part, from 1, of how many.

    Returns:
      Its items; every item is in one part.

    Example:
      >>> share_of("abcde", (1, 2)), share_of("abcde", (2, 2))
      ('ace', 'bd')
    """
    part, parts = shard
    return items[part - 1 :: parts]


def fields_given(overrides: Sequence[str]) -> Mapping[str, Any]:
    """What ``--config.FIELD=VALUE`` sets for all runs.

    Args:
      overrides: the arguments.

    Returns:
      Values by field.

    Raises:
      ValueError: a field that tells rows from each other, or a value that it cannot have.

    Example:
      >>> fields_given(["--config.data.path=/images"])
      {'data.path': '/images'}
    """
    names = [
        override.partition("=")[0].removeprefix("--config.").removeprefix("--noconfig.")
        for override in overrides
    ]
    check_settable(dict.fromkeys(names))
    config, _, _ = parse_config(["--config=paper", *overrides])
    fields = dict(flat_fields(config))
    return {name: fields[name] for name in names}


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of runs, at least 1")
    return int(text)


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r}: expected I/N from 1/N to N/N, such as 1/4")
    return int(found[1]), int(found[2])
