"""Imports within jaxws.data go one way: what makes batches knows where images come from."""

import ast
from pathlib import Path

import jaxws.data

ROOT = Path(jaxws.data.__file__).parent
FLOORS = (
    {"sources", "batch", "feed", "splits", "statistics", "prefetch"},
    {"device"},
    {"host"},
    {"build"},
    {"assumed"},
    {"__init__"},
)


def imported(path):
    """Parts of jaxws.data that a module imports, wherever in it that stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("jaxws.data."):
                yield name.split(".")[2]


def test_no_import_goes_upwards():
    floor = {part: number for number, parts in enumerate(FLOORS) for part in parts}
    modules = {path: path.relative_to(ROOT).with_suffix("").parts[0] for path in ROOT.rglob("*.py")}
    assert set(modules.values()) == set(floor)
    wrong = [
        f"{path.relative_to(ROOT)} imports {other}"
        for path, part in modules.items()
        for other in imported(path)
        if floor.get(other, len(FLOORS)) > floor[part]
    ]
    assert not wrong
