"""The reference: the directive ``public``, and a check that no public name is left out.

``.. public::`` holds names of the current module, one a line. It makes a table of them, with the
first lines of their docstrings, and below it what each is called with. A name of one of
:data:`PACKAGES` without a docstring, or in no table, is a warning, an error with
``sphinx-build -W``.
"""

import importlib
import re
from collections.abc import Iterator
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

PACKAGES = ("jaxws", "jaxws.nnx", "jaxws.layers", "jaxws.models", "jaxws.dynamics", "jaxws.data")

logger = logging.getLogger(__name__)


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
            if isinstance(what, type):
                text += [f".. autoclass:: {name}", "   :members:", ""]
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


def skip_tuple_fields(app: Sphinx, kind: str, name: str, what: Any, skip: bool, *_: Any) -> Any:
    """Fields of named tuples: the docstring of the class explains them."""
    return True if (what.__doc__ or "").startswith("Alias for field number") else None


def name_defaults(
    app: Sphinx, kind: str, name: str, what: Any, options: Any, signature: str | None, returns: Any
) -> tuple[str | None, Any] | None:
    """Functions that are defaults, without their address, which is another one in each build."""
    if signature is None:
        return None
    return re.sub(r"<function (?:\w+\.<locals>\.)*?(\w+).*? at 0x\w+>", r"\1", signature), returns


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("public", Public)
    app.connect("env-check-consistency", check_names)
    app.connect("autodoc-skip-member", skip_tuple_fields)
    app.connect("autodoc-process-signature", name_defaults)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
