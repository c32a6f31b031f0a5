"""The configurations that come with jaxws, by name: one file each in configs/.

In a clone they lie in ``configs/`` beside the package, in an installed wheel within the package.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
from pathlib import Path
from types import ModuleType

from ml_collections import ConfigDict

_PACKAGE = Path(__file__).parents[1]
_INSTALLED, _CLONE = _PACKAGE / "configs", _PACKAGE.parent / "configs"
DIRECTORY = _INSTALLED if _INSTALLED.is_dir() else _CLONE
LISTED = "python -m jaxws configs lists those that there are"


class ArgumentError(ValueError):
    """What follows the colon of ``--config=NAME:ARGUMENT`` is wrong; says what, in one line.

    A file's ``get_config`` raises it, and commands show its text as it is.
    """


def config_names() -> list[str]:
    """Names of the configurations that come with jaxws.

    Returns:
      The names, sorted.

    Example:
      >>> "digits_lc_ws1" in config_names()
      True
    """
    return sorted(path.stem for path in DIRECTORY.glob("*.py"))


def config_path(name: str) -> Path:
    """The file of a configuration that comes with jaxws.

    Args:
      name: such as ``'digits_lc_ws1'``.

    Returns:
      Its path.

    Raises:
      ValueError: there is no such configuration.

    Example:
      >>> config_path("digits_lc_ws1").name
      'digits_lc_ws1.py'
    """
    if name not in config_names():
        raise ValueError(f"no configuration is called {name!r}{near(name) or ';'} {LISTED}.")
    return DIRECTORY / f"{name}.py"


def near(name: str) -> str:
    """A hint at configurations whose names are like another one.

    Args:
      name: that was given.

    Returns:
      The end of a sentence; empty where no name is close.

    Example:
      >>> near("digits_lc_ws")
      ": did you mean 'digits_lc_ws1' or 'digits_lc'?"
    """
    found = difflib.get_close_matches(name, config_names(), n=2, cutoff=0.75)
    return f": did you mean {' or '.join(map(repr, found))}?" if found else ""


def named_config(name: str) -> ConfigDict:
    """A configuration that comes with jaxws, for others that change some of its fields.

    Args:
      name: see :func:`config_path`.

    Returns:
      A new configuration.

    Raises:
      ValueError: there is no such configuration.

    Example:
      >>> config = named_config("digits_lc_ws1")
      >>> config.sharing.every = 10
    """
    return load_module(config_path(name)).get_config()


def load_module(path: Path) -> ModuleType:
    """Runs the file of a configuration.

    Args:
      path: of the file.

    Returns:
      The module, which has ``get_config`` and may have ``run_name``, see
      :func:`jaxws.commands.parse_config.run_name`.

    Example:
      >>> load_module(config_path("digits_lc")).get_config().epochs
      30
    """
    spec = importlib.util.spec_from_file_location(f"_config_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def first_line(name: str) -> str:
    """What a configuration is, in a line.

    Args:
      name: see :func:`config_path`.

    Returns:
      The first line of its file's docstring.

    Raises:
      ValueError: there is no such configuration.

    Example:
      >>> first_line("digits_lc")
      'Handwritten digits, LC without weight sharing.'
    """
    docstring = ast.get_docstring(ast.parse(config_path(name).read_text(encoding="utf-8")))
    return (docstring or "").partition("\n")[0]
