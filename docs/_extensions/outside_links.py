"""Links from pages to files and folders that are no pages, such as ``../jaxws/core/snr.py``.

On GitHub they work as they are. In the manual they lead to the repository, where its address is
known: from the environment variable ``REPOSITORY_URL``, or from those of GitHub's workflows.
Elsewhere a file is a download, and the name of a folder is text. Links to what is not there are
errors.
"""

import os
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]


def repository_url() -> str | None:
    """Where files of the main branch can be seen, without a slash at the end."""
    if url := os.environ.get("REPOSITORY_URL"):
        return url.rstrip("/")
    name = os.environ.get("GITHUB_REPOSITORY")
    return f"{os.environ['GITHUB_SERVER_URL']}/{name}" if name else None


def resolve_outside_links(app: Sphinx, tree: nodes.document) -> None:
    """Replaces links of a page that was just read."""
    folder = (Path(app.srcdir) / app.env.docname).parent
    for link in list(tree.findall(addnodes.download_reference)):
        _resolve(link, folder, link["reftarget"])
    for link in list(tree.findall(addnodes.pending_xref)):
        if link["reftype"] != "myst":
            continue
        if link["refdomain"] is None:
            _resolve(link, folder, link["reftarget"])
        elif link["refdomain"] == "doc" and link["reftarget"] not in app.env.found_docs:
            _resolve(link, folder, f"{link['reftarget']}.md")  # as MyST sees all such files


def _resolve(link: nodes.Element, folder: Path, name: str) -> None:
    target = (folder / name).resolve()
    url = repository_url()
    if not target.exists() or not target.is_relative_to(ROOT):
        return
    if url:
        kind = "tree" if target.is_dir() else "blob"
        address = f"{url}/{kind}/main/{target.relative_to(ROOT).as_posix()}"
        link.replace_self(nodes.reference("", "", *link.children, refuri=address))
    elif target.is_dir():
        link.replace_self(link.children)
    else:
        path = os.path.relpath(target, folder)
        link.replace_self(addnodes.download_reference("", "", *link.children, reftarget=path))


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect(
        "doctree-read", resolve_outside_links, priority=100
    )  # before downloads are collected
    return {"parallel_read_safe": True, "parallel_write_safe": True}
