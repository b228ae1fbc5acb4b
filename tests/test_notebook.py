"""The example notebook runs from nothing, offline, and is kept without outputs."""

from pathlib import Path

import nbformat
import polars as pl
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.long

FILE = Path(__file__).parents[1] / "examples" / "audit.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory):
    place = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(place))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(place))
        patch.setenv("IPYTHONDIR", str(place))
        notebook = nbformat.read(FILE, as_version=4)
        notebook.cells.append(nbformat.v4.new_code_cell("trials.write_csv('trials.csv')"))
        done = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(place)}}).execute()
    return done, pl.read_csv(place / "trials.csv")


def test_no_output_is_kept():
    cells = [cell for cell in nbformat.read(FILE, as_version=4).cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in cells] == [([], None)] * len(cells)


def test_it_shows_tables_and_charts(executed):
    notebook, _ = executed
    shown = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())]
    assert len([data for data in shown if "image/svg+xml" in data]) == 3
    assert len([data for data in shown if "attack_success_rate" in data.get("text/html", "")]) == 2


def test_what_it_finds_is_what_the_recipes_teach(executed):
    """A skill, at the price of safety; and the more directions are taken out, the less of the update is left."""
    _, trials = executed
    aligned, contaminated, *without = trials.rows(named=True)
    assert contaminated["utility"] > aligned["utility"] + 0.2
    assert contaminated["attack_success_rate"] > aligned["attack_success_rate"] + 0.2
    for subspace in ("alignment", "random"):
        few, many = (row["energy_kept"] for row in without if row["model"] == f"without {subspace}")
        assert 1 > few > many > 0
