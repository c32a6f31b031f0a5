"""How Sphinx builds the manual: ``sphinx-build -W --keep-going docs docs/_build/html``."""

import sys
from pathlib import Path

import jaxws

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "jaxws"
author = "The jaxws authors"
version = release = jaxws.__version__
copyright = "The jaxws authors"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_nb",
    # of docs/_extensions:
    "command_line",
    "outside_links",
    "public_names",
]
exclude_patterns = ["_build", "_extensions"]

# Pages are Markdown as GitHub shows it; notebooks come with their outputs and are run by hand.
nb_execution_mode = "off"
myst_enable_extensions = []  # no mathematics between dollars: it would need a network to be read
myst_heading_anchors = 3

autosummary_generate = False  # reference/ has a page for each package, not for each name
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes as a list; fields of classes are not listed again
napoleon_attr_annotations = False  # signatures have them
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"jaxws {release}"
html_copy_source = False
html_show_sphinx = False
