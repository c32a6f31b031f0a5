"""The options ``--config=NAME`` and ``--config.FIELD=VALUE`` of commands, read without JAX."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence

from ml_collections import ConfigDict

from jaxws.commands.parse_config import (
    may_be_own,
    parse_config,
    run_name,
    unknown_override,
)
from jaxws.config.fields import base_config, flat_fields

_HELP = (
    "a configuration that comes with jaxws (python -m jaxws configs lists them) or a file, and"
    " :ARGUMENT if it takes one; --config.FIELD=VALUE changes it"
)


def add_config_arguments(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Adds ``--config`` to a parser, and with :func:`parse_arguments` ``--config.FIELD=VALUE``.

    Args:
      parser: of a command without positional arguments.
      default: the configuration that is read where there is no ``--config``; None to insist on it.
    """
    parser.set_defaults(config_default=default, overrides=[])
    parser.add_argument(
        "--config",
        action="append",  # so that a second one is an error
        metavar="NAME[:ARGUMENT]",
        required=default is None,
        help=f"{_HELP} (default: {default})" if default else _HELP,
    )


def parse_arguments(
    parser: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, list[str]]:
    """Reads a command line, its configuration's fields included where the command has one.

    Args:
      parser: of the command.
      argv: arguments, without the names of program and command.

    Returns:
      The arguments, and those that nobody knows (see :func:`explain_unknown`).

    Example:
      >>> parser = argparse.ArgumentParser(allow_abbrev=False)
      >>> add_config_arguments(parser)
      >>> argv = ["--config.seed=3", "--config=configs/cifar10_lc.py", "--config.epochs", "2", "-x"]
      >>> args, unknown = parse_arguments(parser, argv)
      >>> config, name = config_of(args)
      >>> name, config.seed, config.epochs, unknown
      ('cifar10_lc', 3, 2, ['-x'])
    """
    args, unknown = parser.parse_known_args(argv)
    if hasattr(args, "overrides"):
        args.overrides, unknown = _take_overrides(unknown)
    return args, unknown


def config_of(args: argparse.Namespace) -> tuple[ConfigDict, str]:
    """The configuration that a command line asks for.

    Args:
      args: of :func:`parse_arguments`.

    Returns:
      The configuration and its name, see :func:`run_name`.

    Raises:
      ValueError: see :func:`parse_config`.
    """
    given = [f"--config={name}" for name in args.config or ()]
    config, file, _ = parse_config([*given, *args.overrides], default=args.config_default)
    return config, run_name(file, config)


def _take_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits ``--config.FIELD=VALUE``, or with a space, of possible fields from the rest."""
    fields = dict(flat_fields(base_config()))
    known = {f"--config.{name}" for name in fields}
    known |= {f"--noconfig.{name}" for name, value in fields.items() if isinstance(value, bool)}
    overrides: list[str] = []
    rest: list[str] = []
    waits = False  # whether the last override has no value yet
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if name in known or may_be_own(name):
            overrides.append(argument)
            waits = not equals
        elif waits and not argument.startswith("--"):
            overrides[-1] += f"={argument}"
            waits = False
        else:
            rest.append(argument)
            waits = False
    return overrides, rest


def explain_unknown(arguments: Sequence[str], options: Sequence[str] = ()) -> str:
    """What is wrong with arguments that a parser does not know.

    Args:
      arguments: that were left over.
      options: that the parser knows.

    Returns:
      One sentence.

    Example:
      >>> explain_unknown(["--config.optimizer.lr=1"])
      "unknown field config.optimizer.lr: did you mean 'config.optimizer.learning_rate'?"
      >>> explain_unknown(["--wokdir=x"], ["--workdir"])
      "unknown argument '--wokdir=x': did you mean '--workdir'?"
      >>> explain_unknown(["--n_reps=4"], ["--config"])
      "unknown argument '--n_reps=4': did you mean '--config.data.n_reps'?"
    """
    if unknown := unknown_override(arguments):
        return unknown
    first = arguments[0]
    if not first.startswith("-"):
        return f"unexpected argument {first!r}: flags start with --, as in --config=NAME."
    name = first.partition("=")[0]
    fields = [f"--config.{field}" for field, _ in flat_fields(base_config())]
    found = [field for field in fields if field.endswith(f".{name.lstrip('-')}")]
    if "--config" not in options or not found:
        found = difflib.get_close_matches(name, options, n=1)
    hint = f": did you mean {found[0]!r}?" if found else "; see --help."
    return f"unknown argument {first!r}{hint}"
