"""The notebooks of docs/tutorials: committed as they ran, and they still run."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "tutorials").glob("*.ipynb"))
by_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    cells = json.loads(path.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_there_are_notebooks_and_the_index_names_them():
    index = (NOTEBOOKS[0].parent / "index.md").read_text().splitlines()
    assert {path.stem for path in NOTEBOOKS} <= set(index)


@by_notebook
def test_is_committed_as_it_ran_from_start_to_end(path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs
    assert all(output["output_type"] != "error" for output in outputs)
    assert all(output.get("name") != "stderr" for output in outputs)  # nor warnings
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert path.stat().st_size < 300_000


@pytest.mark.slow
@by_notebook
def test_runs(path, tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="the extra docs runs notebooks")
    nbclient = pytest.importorskip("nbclient", reason="the extra docs runs notebooks")
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=900, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert all(output.get("name") != "stderr" for output in outputs), outputs
