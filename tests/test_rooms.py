"""Who may import whom: each folder of jaxws knows only of those on floors below its own."""

import ast
import graphlib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground up. Folders of one floor do not know each other.
FLOORS = (
    ("system", "huge_pages"),
    ("core", "config"),
    ("data",),
    ("layers", "dynamics", "parallel"),
    ("nnx", "models"),
    ("records", "analysis"),
    ("checkpointing",),
    ("training",),
    ("paper",),
    ("commands",),
    ("__main__",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in (ROOT / "jaxws").rglob("*.py")}


def imports_of(path):
    """Modules of jaxws that a file imports, at any depth of it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in map(defining_module, found) if name}


def defining_module(name):
    """The module that an imported name belongs to: itself, or the one that defines it."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def room_of(module):
    return module.partition(".")[2].partition(".")[0]


@cache  # not when tests are collected, which every worker does
def arrows():
    """What each module imports."""
    return {module: imports_of(path) - {module, "jaxws"} for module, path in MODULES.items()}


def test_every_folder_has_a_floor():
    rooms = {room_of(module) for module in MODULES} - {""}
    assert rooms == set(FLOOR_OF)


@pytest.mark.parametrize("room", FLOOR_OF)
def test_no_import_runs_upwards_or_sideways(room):
    wrong = [
        f"{module} imports {imported}"
        for module, found in arrows().items()
        for imported in found
        if room_of(module) == room != room_of(imported)
        and FLOOR_OF[room_of(imported)] >= FLOOR_OF[room]
    ]
    assert not wrong, wrong


def test_modules_import_each_other_in_no_circle():
    # A package's __init__ imports its modules so that users need not know them.
    packages = {module for module, path in MODULES.items() if path.name == "__init__.py"}
    graph = {m: found - packages for m, found in arrows().items() if m not in packages}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(graph)


def test_tests_mirror_the_folders():
    folders = {str(p.parent.relative_to(ROOT / "tests")) for p in ROOT.glob("tests/**/test_*.py")}
    for folder in folders - {".", "benchmarks"}:
        assert (ROOT / "jaxws" / folder / "__init__.py").exists(), folder
