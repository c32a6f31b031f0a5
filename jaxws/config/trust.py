"""Code that the directory of a run names: it is not run before the user has said so.

``config.json`` of a run with a network or sharing rule of its own says ``module:NAME``, and to make
the network means to import the module. Who trains names it himself, on the command line or in a
configuration; who looks at a run of somebody else may not know that it is there.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Collection

from ml_collections import ConfigDict

from jaxws.config.registry import REGISTRIES, is_outside


def check_trusted(config: ConfigDict, trusted: Collection[str], where: str) -> None:
    """Refuses a configuration that would import a module that nobody asked for.

    A module that this process has imported already does no more, and one that is not there is told
    by the attempt to import it.

    Args:
      config: of a run.
      trusted: names of modules that the user has given.
      where: the configuration comes from, for the message.

    Raises:
      ValueError: it names another module, or not one that was given.

    Example:
      >>> from jaxws.config import base_config
      >>> config = base_config()
      >>> check_trusted(config, [], "runs/theirs/config.json")
      >>> config.model.architecture = "this:NETWORK"
      >>> check_trusted(config, [], "runs/theirs/config.json")  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      ValueError: runs/theirs/config.json names code of its own, config.model.architecture=\
'this:NETWORK', and .../this.py would be run: if it is what you expect, give --trust=this
      >>> check_trusted(config, ["this"], "runs/theirs/config.json")
    """
    named = _named_modules(config)
    for module in trusted:
        if module not in named:
            there = ", ".join(named) or "none"
            raise ValueError(f"--trust={module}: {where} names no such module, but {there}.")
    for module, given in named.items():
        if module in trusted or module in sys.modules:
            continue
        if file := _find(module):
            raise ValueError(
                f"{where} names code of its own, {given}, and {file} would be run: if it is what"
                f" you expect, give --trust={module}"
            )


def _named_modules(config: ConfigDict) -> dict[str, str]:
    """The modules that a configuration names, and where it does."""
    named = {}
    for registry in REGISTRIES:
        name = config[registry.group][registry.leaf]
        if is_outside(name):
            named[name.partition(":")[0]] = f"{registry.field}={name!r}"
    return named


def _find(module: str) -> str | None:
    """The file that an import would begin with; nothing is imported, no package either."""
    first = module.partition(".")[0]
    try:
        spec = importlib.util.find_spec(first) if first else None
    except ValueError:  # what is known of it is not what was imported
        return first
    # Where modules are looked for in the end, see jaxws.config.registry.
    spec = spec or importlib.machinery.PathFinder.find_spec(first, [os.getcwd()])
    return (spec.origin or first) if spec else None
