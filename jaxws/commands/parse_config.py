"""Reading the configuration that ``--config=NAME --config.field=value`` asks for, without JAX.

Beneath are the flags of ml_collections; what is added is that configurations that come with jaxws
have names, that the order does not matter and that every mistake is one line that says what to do.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxws.commands.field_values import read_overrides
from jaxws.config.fields import base_config, flat_fields, unknown_field
from jaxws.config.files import (
    LISTED,
    ArgumentError,
    config_names,
    config_path,
    load_module,
    near,
)
from jaxws.config.registry import REGISTRIES, add_own_fields, own_fields

# Groups of fields to which a network or sharing rule from outside may add.
_EXTENDED = tuple(registry.group for registry in REGISTRIES)


def parse_config(
    argv: Sequence[str], *, default: str | None = None
) -> tuple[ConfigDict, str, list[str]]:
    """Reads the configuration that a command line asks for.

    Args:
      argv: arguments, without the program's name.
      default: what is read where there is no ``--config``.

    Returns:
      The configuration, the path of its file with its ``:ARGUMENT``, and the arguments that are no
      flags.

    Raises:
      ValueError: what is wrong with the arguments or the file, in one line; its ``__cause__`` has
        the traceback.

    Example:
      >>> argv = ["--config.epochs=3", "--config", "configs/cifar10_lc.py"]
      >>> config, file, rest = parse_config(argv)
      >>> config.epochs, file, rest
      (3, 'configs/cifar10_lc.py', [])
    """
    known = flags.FlagValues()
    chosen, others = _split(argv, default)
    path = _find(chosen)
    own = [argument for argument in others if may_be_own(argument)]
    others = [argument for argument in others if argument not in own]
    if unknown := unknown_override(others):
        raise ValueError(unknown)
    others, unset = read_overrides(others, base_config())
    ordered = [sys.argv[0], f"--config={path}", *others]
    config_flags.DEFINE_config_file("config", default, flag_values=known, sys_argv=ordered)
    try:
        with _imports_beside(path), warnings.catch_warnings():
            # Of ml_collections, about how it imports the file.
            warnings.filterwarnings("ignore", "the load_module", DeprecationWarning)
            rest = known(ordered)
        config = known["config"].value
        list(flat_fields(config))  # a file that failed to load may say so only when looked at
    except Exception as error:
        raise ValueError(_explain(error, path)) from error
    _unset(config, unset)
    add_own_fields(config)
    config = _override(config, own)
    return config, config_flags.get_config_filename(known["config"]), rest[1:]


def run_name(file: str, config: ConfigDict) -> str:
    """What the run of a configuration is called, and its directory in runs/.

    A file that takes an argument may have a function ``run_name(argument, config)``, which says so.

    Args:
      file: of the configuration, and ``:ARGUMENT`` if it was given one.
      config: that was read from there, with what the command line has changed.

    Returns:
      The file's name, without directory and suffix, or what the file says.

    Example:
      >>> argv = ["--config=paper:table5/cifar10/lc", "--config.seed=2"]
      >>> config, file, _ = parse_config(argv)
      >>> run_name(file, config)
      'paper/table5/cifar10/lc/seed2'
    """
    path, _, argument = file.partition(":")
    own = getattr(load_module(Path(path)), "run_name", None) if argument else None
    return own(argument, config) if own else Path(path).stem


def _override(config: ConfigDict, own: Sequence[str]) -> ConfigDict:
    """Sets fields that are known only now that the configuration has been read."""
    if not own:
        return config
    fields = dict(flat_fields(config))
    for argument in own:
        if _field_of(argument) not in fields:
            raise ValueError(unknown_field(_field_of(argument), fields))
    own, unset = read_overrides(own, own_fields(config))
    known, ordered = flags.FlagValues(), [sys.argv[0], *own]
    config_flags.DEFINE_config_dict("config", config, flag_values=known, sys_argv=ordered)
    try:
        known(ordered)
    except Exception as error:
        raise ValueError(str(error)) from error
    config = known["config"].value
    _unset(config, unset)
    return config


def _unset(config: ConfigDict, names: Sequence[str]) -> None:
    config.update_from_flattened_dict(dict.fromkeys(names))


@contextlib.contextmanager
def _imports_beside(path: str) -> Iterator[None]:
    """Lets configs/a.py import configs.b from whatever directory the program was started in."""
    parent = str(Path(path.partition(":")[0]).resolve().parent.parent)
    sys.path.append(parent)
    try:
        yield
    finally:
        sys.path.remove(parent)


def _split(argv: Sequence[str], default: str | None) -> tuple[str, list[str]]:
    """Takes --config, or its default, out: ml_collections wants it before --config.field."""
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
        raise ValueError("no --config: give a file or a name, as in --config=cifar10_lc.")
    return chosen[0] if chosen else str(default), rest


def _find(chosen: str) -> str:
    """The file of --config=CHOSEN, which may be a name, and :ARGUMENT."""
    path, *argument = chosen.partition(":")
    if Path(path).is_file():
        return chosen
    name = Path(path).name.removesuffix(".py")
    if name == path and path in config_names():
        return str(config_path(path)) + "".join(argument)
    hint = f": did you mean --config={name}?" if name in config_names() else near(name)
    what = "configuration" if name == path else "file"
    raise ValueError(f"--config={chosen}: no such {what}{hint or ';'} {LISTED}.")


def _explain(error: Exception, path: str) -> str:
    """What is wrong with flags or the file of a configuration, in one line."""
    *_, cause = causes = list(_causes(error))
    if told := [each for each in causes if isinstance(each, ArgumentError)]:
        return str(told[-1])
    if isinstance(error, flags.Error) and "Traceback" not in str(error):
        return str(error)
    where = f", line {cause.lineno}" if isinstance(cause, SyntaxError) else ""
    return (
        f"config file {path}{where}: {type(cause).__name__}: {cause} (--debug shows the traceback)"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it came of; the first cause is last."""
    while error:
        yield error
        error = error.__cause__ or error.__context__


def may_be_own(argument: str) -> bool:
    """Whether an argument names a field that only a network or rule from outside may have."""
    name = _field_of(argument)
    return name.partition(".")[0] in _EXTENDED and name not in dict(flat_fields(base_config()))


def _field_of(argument: str) -> str:
    """The field that ``--config.FIELD=VALUE`` or ``--noconfig.FIELD`` names; empty for others."""
    option, _, name = argument.partition("=")[0].partition(".")
    return name if option in ("--config", "--noconfig") else ""


def unknown_override(argv: Sequence[str]) -> str | None:
    """Finds which --config.field=value names a field that does not exist."""
    prefix = "--config."
    known = [name for name, _ in flat_fields(base_config())]
    for argument in argv:
        key = argument.removeprefix(prefix).split("=", 1)[0]
        if argument.startswith(prefix) and key not in known:
            return unknown_field(key, known)
    return None
