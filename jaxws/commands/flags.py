"""Reading ``--config=FILE`` and ``--config.field=value`` from a command line.

Beneath are the flags of ml_collections; what is added is that the order does not matter and that
every mistake is one line that says what to do.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxws.config import base_config, flat_fields, unknown_field

_HELP = "File of the experiment, and :ARGUMENT if it takes one; --config.FIELD=VALUE changes it."


def parse_config(
    argv: Sequence[str], *, default: str | None = None, flag_values: flags.FlagValues | None = None
) -> tuple[ConfigDict, str, list[str]]:
    """Reads the configuration that a command line asks for.

    Args:
      argv: arguments, without the program's name.
      default: the file that is read where there is no ``--config``.
      flag_values: other flags that there may be, which are parsed too.

    Returns:
      The configuration, the path of its file, and the arguments that are no flags.

    Raises:
      ValueError: what is wrong with the arguments or the file, in one line; its ``__cause__`` has
        the traceback.

    Example:
      >>> argv = ["--config.epochs=3", "--config", "configs/cifar10_lc.py"]
      >>> config, file, rest = parse_config(argv)
      >>> config.epochs, file, rest
      (3, 'configs/cifar10_lc.py', [])
    """
    known = flags.FlagValues() if flag_values is None else flag_values
    ordered = [sys.argv[0], *_config_first(argv, default)]
    path = ordered[1].partition("=")[2]
    config_flags.DEFINE_config_file("config", default, _HELP, flag_values=known, sys_argv=ordered)
    try:
        with _imports_beside(path), warnings.catch_warnings():
            # Of ml_collections, about how it imports the file.
            warnings.filterwarnings("ignore", "the load_module", DeprecationWarning)
            rest = known(ordered)
        config = known["config"].value
        list(flat_fields(config))  # a file that failed to load may say so only when looked at
    except Exception as error:
        raise ValueError(_explain(error, path, ordered)) from error
    return config, config_flags.get_config_filename(known["config"]), rest[1:]


@contextlib.contextmanager
def _imports_beside(path: str) -> Iterator[None]:
    """Lets configs/a.py import configs.b from whatever directory the program was started in."""
    parent = str(Path(path.partition(":")[0]).resolve().parent.parent)
    sys.path.append(parent)
    try:
        yield
    finally:
        sys.path.remove(parent)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--config`` and an option for each of its fields to a parser.

    Args:
      parser: gets the arguments; :func:`config_of` reads what they were.

    Example:
      >>> parser = argparse.ArgumentParser()
      >>> add_config_arguments(parser)
      >>> args = parser.parse_args(["--config=configs/cifar10_lc.py", "--config.seed=3"])
      >>> config_of(args)[0].seed
      3
    """
    parser.add_argument("--config", metavar="FILE[:ARGUMENT]", required=True, help=_HELP)
    parser.set_defaults(config_fields=[])
    for name, _ in flat_fields(base_config()):
        parser.add_argument(
            f"--config.{name}",
            action=_Keep,
            nargs="?",
            dest="config_fields",
            help=argparse.SUPPRESS,
        )


def config_of(args: argparse.Namespace) -> tuple[ConfigDict, str]:
    """The configuration asked for by the arguments of :func:`add_config_arguments`.

    Args:
      args: parsed.

    Returns:
      The configuration and the name of its file, without directory and suffix.

    Raises:
      ValueError: see :func:`parse_config`.
    """
    config, file, _ = parse_config([f"--config={args.config}", *args.config_fields])
    return config, Path(file).stem


def explain_unknown(arguments: Sequence[str]) -> str:
    """What is wrong with arguments that a parser of :func:`add_config_arguments` does not know.

    Args:
      arguments: that were left over.

    Returns:
      One sentence.

    Example:
      >>> explain_unknown(["--config.optimizer.lr=1"])
      "unknown field config.optimizer.lr: did you mean 'config.optimizer.learning_rate'?"
    """
    return _unknown_override(arguments) or f"unknown argument {arguments[0]!r}; see --help."


class _Keep(argparse.Action):
    """Collects options as they were given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        given = [] if values is None else [values]
        kept = [*namespace.config_fields, "=".join([str(option_string), *given])]
        namespace.config_fields = kept


def _config_first(argv: Sequence[str], default: str | None) -> list[str]:
    """Puts --config in front, or its default: ml_collections wants it before --config.field."""
    rest, chosen = [], []
    arguments = iter(argv)
    for argument in arguments:
        name, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == "config":
            chosen.append(value if equals else next(arguments, ""))
        else:
            rest.append(argument)
    if len(chosen) > 1:
        raise ValueError("--config is given more than once: " + ", ".join(chosen) + ".")
    if not chosen and default is None:
        raise ValueError("no --config: give a file, as in --config=configs/cifar10_lc.py.")
    return [f"--config={chosen[0] if chosen else default}", *rest]


def _explain(error: Exception, path: str, argv: Sequence[str]) -> str:
    """What is wrong with flags or the file of a configuration, in one line."""
    cause = _first_cause(error)
    if "[Errno 2]" in str(cause):
        return f"--config={path}: no such file; see configs/ for the ones that there are."
    if isinstance(error, flags.Error) and "Traceback" not in str(error):
        return str(error)
    if unknown := _unknown_override(argv):
        return unknown
    where = f", line {cause.lineno}" if isinstance(cause, SyntaxError) else ""
    return (
        f"config file {path}{where}: {type(cause).__name__}: {cause} (--debug shows the traceback)"
    )


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return error


def _unknown_override(argv: Sequence[str]) -> str | None:
    """Finds which --config.field=value names a field that does not exist."""
    prefix = "--config."
    known = [name for name, _ in flat_fields(base_config())]
    for argument in argv:
        key = argument.removeprefix(prefix).split("=", 1)[0]
        if argument.startswith(prefix) and key not in known:
            return unknown_field(key, known)
    return None
