"""``python -m jaxws configs``: the configurations that come with jaxws."""

from __future__ import annotations

import argparse

from jaxws.config.files import DIRECTORY, config_names, first_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser: none."""


def run(args: argparse.Namespace) -> int:
    """Prints names and what they are.

    Args:
      args: of :func:`add_arguments`.

    Returns:
      0.
    """
    names = config_names()
    width = max(map(len, names))
    for name in names:
        print(f"{name:<{width}}  {first_line(name)}")
    print(f"\n--config=NAME chooses one; their files, with more about each, are in {DIRECTORY}")
    return 0
