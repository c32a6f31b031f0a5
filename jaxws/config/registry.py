"""Networks and sharing rules by name: what ``model.architecture`` and ``sharing.mode`` may be.

A name stands for an object of a module, written ``module:NAME``. The modules are imported when the
object is asked for, so that configurations are read and checked without JAX, and so that nothing
here depends on what stands above it. A field may also hold such a string itself: then the network
or the rule is the user's own, and the library needs no entry for it (docs/extending.md).

An object from outside may have fields of its own, beside those of ``config/fields.py``: its
``fields`` are names and defaults, which are added to ``config.model`` or ``config.sharing``.
"""

from __future__ import annotations

import copy
import difflib
import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxws.config.fields import base_config, flat_fields


class Registry(NamedTuple):
    """What a field of the configuration may name.

    Attributes:
      group: of the field, ``'model'`` or ``'sharing'``; own fields are added to it.
      leaf: the field in it.
      kind: class of the objects, as ``module:NAME``.
      entries: the objects that come with the library, as ``module:NAME``, by name.
    """

    group: str
    leaf: str
    kind: str
    entries: Mapping[str, str]

    @property
    def field(self) -> str:
        """The dotted name of the field, as users write it."""
        return f"config.{self.group}.{self.leaf}"

    def check(self, name: Any, given_as: str | None = None) -> None:
        """Checks a name without importing what it stands for.

        Args:
          name: an entry, or ``module:NAME``.
          given_as: where users gave the name, for the error; by default the field.

        Raises:
          ValueError: it is neither.

        Example:
          >>> ARCHITECTURES.check("resnet19")  # doctest: +ELLIPSIS
          Traceback (most recent call last):
          ValueError: config.model.architecture='resnet19': expected one of 'resnet_cifar',
          'resnet18', 'vit', or module:NAME for a ModelSpec of your own; did you mean 'resnet18'?
        """
        if name in self.entries or is_outside(name):
            return
        kind = self.kind.partition(":")[2]
        near = difflib.get_close_matches(str(name), self.entries, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(
            f"{given_as or self.field}={name!r}: expected one of"
            f" {', '.join(map(repr, self.entries))}, or module:NAME for a {kind} of your own{hint}"
        )

    def load(self, name: str, given_as: str | None = None) -> Any:
        """Imports what a name stands for.

        Args:
          name: an entry, or ``module:NAME``, of which the module can be imported or lies in the
            current directory.
          given_as: where users gave the name, for errors; by default the field.

        Returns:
          An object of the class ``kind``.

        Raises:
          ValueError: there is no such name or module, the module cannot be imported, or the object
            is missing in it or of another class.

        Example:
          >>> type(ARCHITECTURES.load("vit")).__name__
          'ModelSpec'
        """
        self.check(name, given_as)
        if name in self.entries:
            return _resolve(self.entries[name])
        return self._load_outside(name, f"{given_as or self.field}={name!r}")

    def check_hashable(self, name: str, made: Any) -> None:
        """Checks what an object has made, for which programs will be compiled.

        Args:
          name: of the object.
          made: by it.

        Raises:
          ValueError: it cannot be hashed, so no program could be found again.

        Example:
          >>> SHARING_RULES.check_hashable("my_rules:PARTLY", [0.5])  # doctest: +ELLIPSIS
          Traceback (most recent call last):
          ValueError: config.sharing.mode='my_rules:PARTLY' makes a list that cannot be hashed: ...
        """
        try:
            hash(made)
        except TypeError as error:
            raise ValueError(
                f"{self.field}={name!r} makes a {type(made).__name__} that cannot be hashed:"
                " programs are compiled for it; expected a frozen dataclass or a Flax module, whose"
                " attributes can be hashed too."
            ) from error

    def _load_outside(self, name: str, given: str) -> Any:
        module_name, _, attribute = name.partition(":")
        # At the end, so that nothing installed is hidden; for good, as functions may import more.
        if os.getcwd() not in sys.path and "" not in sys.path:
            sys.path.append(os.getcwd())
        try:
            module = importlib.import_module(module_name)
        except Exception as error:  # whatever the module does
            raise ValueError(
                f"{given}: module {module_name!r} cannot be imported ({type(error).__name__}:"
                f" {error}); start in the directory that it is in, install it, or correct it."
            ) from error
        kind = _resolve(self.kind)
        if not hasattr(module, attribute):
            near = difflib.get_close_matches(attribute, vars(module), n=1)
            there = [key for key, value in vars(module).items() if isinstance(value, kind)]
            hint = ", ".join(map(repr, near or there)) or f"no {kind.__name__}"
            raise ValueError(
                f"{given}: module {module_name!r} has no {attribute!r}; it has {hint}."
            )
        found = getattr(module, attribute)
        if not isinstance(found, kind):
            raise ValueError(
                f"{given}: it is of type {type(found).__name__}; expected a"
                f" {kind.__module__}.{kind.__name__}, see docs/extending.md."
            )
        return found


ARCHITECTURES = Registry(
    "model",
    "architecture",
    kind="jaxws.models.spec:ModelSpec",
    entries={
        "resnet_cifar": "jaxws.models.resnet:RESNET_CIFAR",
        "resnet18": "jaxws.models.resnet:RESNET18",
        "vit": "jaxws.models.vision_transformer:VIT",
    },
)
SHARING_RULES = Registry(
    "sharing",
    "mode",
    kind="jaxws.training.sharing_rules.spec:SharingRule",
    entries={
        "instant": "jaxws.training.sharing_rules.instant:INSTANT",
        "sleep": "jaxws.training.sharing_rules.hebbian:SLEEP",
        "online": "jaxws.training.sharing_rules.hebbian:ONLINE",
    },
)
REGISTRIES = (ARCHITECTURES, SHARING_RULES)


def is_outside(name: Any) -> bool:
    """Whether a name is that of an object from outside the library.

    Args:
      name: value of a field.

    Returns:
      A bool.

    Example:
      >>> is_outside("my_models:PERCEPTRON"), is_outside("vit")
      (True, False)
    """
    return isinstance(name, str) and ":" in name


def own_fields(config: ConfigDict) -> ConfigDict:
    """The fields that the network and the sharing rule of a configuration bring along.

    Args:
      config: a configuration, whole or not; nothing is imported if it names entries only.

    Returns:
      The fields with their defaults, in the groups that they belong to.

    Raises:
      ValueError: what a field names cannot be loaded, or a field of its own has the name of
        another one.

    Example:
      >>> own_fields(base_config()).to_dict()
      {'model': {}, 'sharing': {}}
    """
    found, given = ConfigDict(), dict(flat_fields(config))
    for registry in REGISTRIES:
        group = found[registry.group] = ConfigDict()
        name: Any = given.get(f"{registry.group}.{registry.leaf}")
        if not is_outside(name):
            continue
        # Copied: a placeholder would be one field of all configurations.
        fields = copy.deepcopy(dict(registry.load(name).fields))
        if taken := sorted(fields.keys() & set(base_config()[registry.group])):
            raise ValueError(
                f"{registry.field}={name!r} has a field {taken[0]!r} of its own, but there is a"
                f" config.{registry.group}.{taken[0]} already: read that one, or rename yours."
            )
        group.update(fields)
    return found


def add_own_fields(config: ConfigDict) -> None:
    """Gives a configuration the fields of :func:`own_fields` that it has not, at their defaults.

    Args:
      config: is changed.

    Raises:
      ValueError: see :func:`own_fields`.
    """
    with config.unlocked():
        for name, fields in own_fields(config).items():
            for key in sorted(key for key in fields if key not in config[name]):
                # A placeholder keeps its type, and others their value.
                config[name][key] = fields.get_ref(key) if fields[key] is None else fields[key]


def _resolve(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
