"""Values of ``--config.FIELD=VALUE`` as they are typed: checked before ml_collections reads them.

Its parsers, and those of absl beneath them, decide what can be read; what is said where they cannot
is said here, in words of the command line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags import tuple_parser

from jaxws.config.fields import flat_fields
from jaxws.config.numbers import KINDS_IN_WORDS, MOST_WHOLE, field_kinds

UNSET = "None"  # leaves a field unset, where that is its default
_PARSERS: Mapping[type, flags.ArgumentParser] = {
    bool: flags.BooleanParser(),
    int: flags.IntegerParser(),
    float: flags.FloatParser(),
    tuple: tuple_parser.TupleParser(),
}
_EXAMPLES = {bool: True, int: 1, float: 0.1, str: "TEXT"}
_TUPLES = "such as 1,2 or \"'one','two'\""  # as Python writes them, no shell would take them
_MEANT = {"yes": True, "on": True, "no": False, "off": False}  # in other programs


class Overrides(NamedTuple):
    """What a command line changes of a configuration.

    Attributes:
      set: arguments ``--config.FIELD=VALUE``, or ``--config.FIELD`` and ``--noconfig.FIELD`` of one
        that is True or False; those of unknown fields as they were given.
      unset: names of fields that are to have no value.
    """

    set: list[str]
    unset: list[str]


def read_overrides(arguments: Sequence[str], config: ConfigDict) -> Overrides:
    """Checks what is typed for fields.

    Args:
      arguments: ``--config.FIELD=VALUE``, or with a space in place of the sign; others are kept.
      config: one in which fields have their defaults.

    Returns:
      What they change.

    Raises:
      ValueError: a value is missing, or is none of its field's kind.

    Example:
      >>> from jaxws.config.fields import base_config
      >>> read_overrides(["--config.seed", "3", "--config.max_steps=None"], base_config())
      Overrides(set=['--config.seed=3'], unset=['max_steps'])
      >>> read_overrides(["--config.seed=1.5"], base_config())
      Traceback (most recent call last):
      ValueError: --config.seed=1.5: expected a whole number, as in --config.seed=0.
    """
    kinds, defaults = dict(field_kinds(config)), dict(flat_fields(config))
    given: list[str] = []
    unset: dict[str, None] = {}
    for argument, name in _joined(arguments, kinds, defaults):
        if name is None:
            given.append(argument)
            continue
        _, equals, text = argument.partition("=")
        if equals and text == UNSET and defaults[name] is None:
            given = [other for other in given if _field(other) != name]  # the last one counts
            unset[name] = None
            continue
        unset.pop(name, None)
        if equals:
            _check(name, text, kinds[name], defaults[name], argument)
        given.append(argument)
    return Overrides(given, list(unset))


def _joined(
    arguments: Sequence[str], kinds: Mapping[str, type], defaults: Mapping[str, Any]
) -> Iterator[tuple[str, str | None]]:
    """Arguments, each with its value, and the fields that they name, or None."""
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name = _field(argument)
        if name not in kinds:
            yield argument, None
            continue
        if "=" not in argument and kinds[name] is not bool:
            if not rest or rest[0].startswith("--"):
                expected = _expected(name, kinds[name], defaults[name])
                raise ValueError(f"{argument} has no value: {expected}.")
            argument += f"={rest.pop(0)}"
        yield argument, name


def _field(argument: str) -> str:
    """The field that an argument names; of others, what is no field."""
    option, _, name = argument.partition("=")[0].partition(".")
    return name if option in ("--config", "--noconfig") else ""


def _check(name: str, text: str, kind: type, default: Any, argument: str) -> None:
    if argument.startswith("--no"):
        raise ValueError(
            f"{argument}: expected no value; --config.{name}=False and --noconfig.{name} say the"
            " same."
        )
    if text == "" and kind is not str:  # checks.py says which texts may be empty
        raise ValueError(f"{argument} has no value: {_expected(name, kind, default)}.")
    if kind not in _PARSERS:
        return
    try:
        _PARSERS[kind].parse(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        expected = _expected(name, kind, _meant(text, kind, default))
        can_be_unset = f"; {UNSET} leaves it unset" if default is None else ""
        raise ValueError(f"{argument}: {expected}{can_be_unset}.") from error


def _expected(name: str, kind: type, example: Any = None) -> str:
    if kind is tuple:
        return f"expected {KINDS_IN_WORDS[kind]}, {_TUPLES}"
    if example is None:
        example = _EXAMPLES.get(kind, "VALUE")
    return f"expected {KINDS_IN_WORDS.get(kind, 'a value')}, as in --config.{name}={example}"


def _meant(text: str, kind: type, default: Any) -> Any:
    """The value that a mistaken text most likely stands for, else the default."""
    if kind is bool:
        return _MEANT.get(text.lower(), default)
    if kind is int:
        try:
            number = float(text)
        except ValueError:
            return default
        return int(number) if number.is_integer() and abs(number) <= MOST_WHOLE else default
    return default
