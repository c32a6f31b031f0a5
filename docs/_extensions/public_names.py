"""The reference: the directive ``public``, and a check that no public name is left out.

``.. public::`` holds names of the current module, one a line. It makes a table of them, with the
first lines of their docstrings, and below it what each is called with. A name of one of
:data:`PACKAGES` without a docstring, or in no table, is a warning, an error with
``sphinx-build -W``.
"""

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.environment import BuildEnvironment
from sphinx.ext import autosummary
from sphinx.util import inspect as sphinx_inspect
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

PACKAGES = (
    "jaxws",
    "jaxws.nnx",
    "jaxws.layers",
    "jaxws.models",
    "jaxws.dynamics",
    "jaxws.analysis",
    "jaxws.data",
)

logger = logging.getLogger(__name__)

_ARRAY = r"~?[\w.]+\[~?[\w.]*(?:Array|ndarray), '[^']*'\]"
_ARRAYS = re.compile(rf"{_ARRAY}(?: \| {_ARRAY})+")

# A first sentence goes on after these.
autosummary.WELL_KNOWN_ABBREVIATIONS += ("Eq.", "Eqs.", "Fig.", "Sec.")


class Public(SphinxDirective):
    """A table of names, and their docstrings."""

    has_content = True
    option_spec: ClassVar = {}

    def run(self) -> list[nodes.Node]:
        """Called by docutils."""
        module = importlib.import_module(self.env.ref_context["py:module"])
        names = [name.strip() for name in self.content if name.strip()]
        text = [".. autosummary::", "   :nosignatures:", "", *(f"   {name}" for name in names), ""]
        for name in names:
            what = getattr(module, name)
            if isinstance(what, type):  # its fields are explained in its docstring
                fields = [*getattr(what, "__dataclass_fields__", ()), *getattr(what, "_fields", ())]
                text += [f".. autoclass:: {name}", "   :members:"]
                text += [f"   :exclude-members: {', '.join(fields)}", ""]
            else:
                text += [f".. autofunction:: {name}", ""]
        return self.parse_text_to_nodes("\n".join(text))


def own_docstring(what: Any) -> str:
    """What was written for an object: neither inherited, nor made up by dataclasses."""
    text = vars(what).get("__doc__") if isinstance(what, type) else what.__doc__
    made_up = isinstance(what, type) and (text or "").startswith(f"{what.__name__}(")
    return "" if made_up else text or ""


def what_is_missing(documented: set[str]) -> Iterator[str]:
    """Lists what is wrong with the reference.

    Args:
      documented: full names of all objects in it.

    Yields:
      A sentence for each public name without a docstring, or that is not in the reference under the
      name of any package.
    """
    found = {
        (package, name): getattr(importlib.import_module(package), name)
        for package in PACKAGES
        for name in importlib.import_module(package).__all__
    }
    shown = {
        id(what) for (package, name), what in found.items() if f"{package}.{name}" in documented
    }
    for (package, name), what in found.items():
        if not own_docstring(what):
            yield f"{package}.{name} has no docstring."
        if id(what) not in shown:
            yield f"{package}.{name} is not in the reference: add it to a page in docs/reference/."


def check_names(app: Sphinx, env: BuildEnvironment) -> None:
    """Warns of what is missing, once all pages were read."""
    for sentence in what_is_missing(set(env.domains.python_domain.objects)):
        logger.warning(sentence)


class _Named:
    """A default that is shown as a name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


def shorten_signature(
    app: Sphinx, kind: str, name: str, what: Any, options: Any, signature: str | None, returns: Any
) -> tuple[str | None, Any]:
    """Signatures that can be read: an array of one of many shapes is an array.

    Shapes are in the docstring. Of classes it is that of ``__init__``, whatever calls it.
    """
    if kind == "class" and what.__init__ is not object.__init__:
        signature = "" if getattr(what, "_is_protocol", False) else _class_signature(what)
    return _shorten(signature), _shorten(returns)


def _class_signature(what: type) -> str:
    signature = sphinx_inspect.signature(what.__init__, bound_method=True)
    parameters = [
        parameter.replace(default=_named(parameter.default))
        for parameter in signature.parameters.values()
        if parameter.name != "parent"  # which Flax gives its modules itself
    ]
    return sphinx_inspect.stringify_signature(
        signature.replace(parameters=parameters),
        show_return_annotation=False,
        unqualified_typehints=True,
    )


def _named(default: Any) -> Any:
    """Functions and types by their name, those made by a function by its name; objects as ..."""
    if default is inspect.Parameter.empty or not repr(default).startswith("<"):
        return default
    if not hasattr(default, "__name__"):
        return ...
    return _Named(getattr(default, "__qualname__", default.__name__).partition(".")[0])


def _shorten(text: str | None) -> str | None:
    return text and _ARRAYS.sub("Array", text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("public", Public)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"  # as docstrings have it
    app.connect("env-check-consistency", check_names)
    app.connect("autodoc-process-signature", shorten_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
