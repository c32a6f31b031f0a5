"""The directives ``config-fields`` and ``command-help``: what the command line takes.

The first reads names and defaults from :func:`jaxws.config.fields.base_config` and what they mean
from the comments of that function; the second prints the help of every command, as a terminal does.
"""

import argparse
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from jaxws.__main__ import COMMANDS
from jaxws.config import fields

ROOT = Path(fields.__file__).parents[2]
_FUNCTIONS = {
    fields.base_config: "",
    fields._model_fields: "model.",
    fields._sharing_fields: "sharing.",
    fields._dale_fields: "plasticity.dale.",
    fields._topography_fields: "topography.",
    fields._data_fields: "data.",
}
_LINE = re.compile(r"\s+([a-z_.]+) = .*?(?:  # (.*))?")


def field_rows() -> Iterator[tuple[str, str, str]]:
    """Lists fields, and the comments that are about several of them.

    Yields:
      Name, default and meaning, which is the comment behind the line and that above it. The name is
      that of a section, or empty, and the default empty, for comments on what follows.
    """
    known = dict(fields.flat_fields(fields.base_config()))
    for function, section in _FUNCTIONS.items():
        above = ""
        for line in inspect.getsource(function).splitlines():
            if line.strip().startswith("# "):
                above = line.strip().removeprefix("# ")
                if above.endswith(":"):
                    yield "", "", above
                    above = ""
            elif found := _LINE.fullmatch(line):
                name = section + found[1].partition(".")[2]
                meaning = " ".join(filter(None, (above, found[2])))
                above = ""
                if name in known:
                    yield name, _shown(known.pop(name), line), meaning
                elif meaning:
                    yield name, "", meaning
    if known:
        raise ValueError(f"{', '.join(known)}: no line in the functions of jaxws/config/fields.py.")


def _code(text: str) -> str:
    return f"``{text}``" if text else ""


def _shown(default: Any, line: str) -> str:
    if default is not None:
        return repr(default)
    return f"unset ({line.partition('placeholder(')[2].partition(')')[0]})"


class ConfigFields(SphinxDirective):
    """A table of all fields."""

    def run(self) -> list[nodes.Node]:
        """Called by docutils."""
        self.env.note_dependency(fields.__file__)
        text = [".. list-table::", "   :header-rows: 1", "   :widths: 35 20 45", ""]
        text += ["   * - field", "     - default", "     - "]
        for name, default, meaning in field_rows():
            text += [f"   * - {_code(name)}", f"     - {_code(default)}"]
            text += [f"     - {meaning}".replace("*", r"\*")]
        return self.parse_text_to_nodes("\n".join(text))


class CommandHelp(SphinxDirective):
    """The help of every command, under headings."""

    def run(self) -> list[nodes.Node]:
        """Called by docutils."""
        text = []
        for name, parser in parsers():
            text += [name, "-" * len(name), "", ".. code-block:: text", ""]
            text += [f"   {line}" for line in help_text(parser).splitlines()] + [""]
        return self.parse_text_to_nodes("\n".join(text), allow_section_headings=True)


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Names of commands, such as ``paper run``, and their parsers."""
    for command, what in COMMANDS.items():
        prog = f"python -m jaxws {command}"
        parser = argparse.ArgumentParser(prog=prog, description=what, allow_abbrev=False)
        importlib.import_module(f"jaxws.commands.{command}").add_arguments(parser)
        yield command, parser
        for action in parser._actions if command == "paper" else ():
            if isinstance(action, argparse._SubParsersAction):
                yield from ((f"{command} {name}", p) for name, p in action.choices.items())


def help_text(parser: argparse.ArgumentParser) -> str:
    """As on a terminal of 88 columns, with paths from the clone's root."""
    with mock.patch.dict("os.environ", {"COLUMNS": "88", "NO_COLOR": "1"}):
        return parser.format_help().replace(f"{ROOT}/", "")


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("config-fields", ConfigFields)
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
