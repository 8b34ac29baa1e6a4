"""The notebook runs from its first cell to its last, and holds no output that would differ by run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "decisions-guide" / "train_and_ship.ipynb"


def run(notebook: dict) -> dict[str, object]:
    """Executes the code cells in order, in one namespace."""
    names: dict[str, object] = {"__name__": "notebook"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {cell['id']}", "exec"), names)
    return names


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return json.loads(NOTEBOOK.read_text())


def test_the_notebook_runs(notebook, tmp_path):
    names = run(notebook)
    assert names["found"]["metrics"]["ap"]["value"] > 0.5
    assert list(tmp_path.iterdir()) == []


def test_the_notebook_holds_no_output(notebook):
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


def test_a_cell_that_fails_fails_the_test(notebook):
    broken = {"cells": [{"cell_type": "code", "id": "x", "source": ["assert False, 'planted'"]}]}
    with pytest.raises(AssertionError, match="planted"):
        run(broken)
