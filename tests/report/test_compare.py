"""Several runs on one page."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from run_tables import write_rows
from test_page import Page, specs

from safespan.errors import DataError
from safespan.report import write_comparison
from safespan.report.compare import names_of
from safespan.results.run_folder import RunFolder


def test_every_run_has_its_column_of_panels_and_its_verdicts(full_run: RunFolder, tmp_path: Path) -> None:
    other = RunFolder(Path(shutil.copytree(full_run.root, tmp_path / "other")))
    table = other.read_table("verdicts").with_columns(verdict=pl.lit("inconclusive"), direction=pl.lit(""))
    write_rows(other, "verdicts", table.to_dicts())
    path = write_comparison([full_run, other], tmp_path / "both")
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    runs = (full_run.root.name, "other")
    drawn = specs(page)
    assert set(drawn) == {
        "verdicts_update", "verdicts_ablation", "verdicts_training", "parallel_fraction", "parallel_energy_kept",
        "orthogonal_fraction", "orthogonal_energy_kept", "overlap_curves", "activation_overlap", "separation",
    }  # fmt: skip
    for name, spec in drawn.items():
        named = {row.get("run", row.get("panel")) for row in spec["datasets"]["rows"]}
        assert named == set(runs), name
    assert "inconclusive" in html
    assert "selective, harm first" in html
    assert {file.stem for file in (tmp_path / "both/figures").iterdir()} == set(drawn)


def test_a_run_that_was_not_tested_stands_beside_one_that_was(full_run: RunFolder, tmp_path: Path) -> None:
    other = RunFolder(tmp_path / "other")
    write_rows(other, "models", full_run.read_table("models").to_dicts())
    page = Page(write_comparison([full_run, other], tmp_path / "both").read_text(encoding="utf-8"))
    assert {row["run"] for row in json.loads(page.data["specs"])["verdicts_training"]["datasets"]["rows"]} == {
        full_run.root.name
    }


def test_runs_are_called_by_what_tells_them_apart() -> None:
    assert names_of([Path("/a/x/run"), Path("/a/y/run")]) == ["x/run", "y/run"]
    assert names_of([Path("/a/one"), Path("/b/two")]) == ["one", "two"]


@pytest.mark.parametrize("count", [1, 2])
def test_one_run_is_no_comparison(full_run: RunFolder, tmp_path: Path, count: int) -> None:
    with pytest.raises(DataError, match="two or more different run folders"):
        write_comparison([full_run] * count, tmp_path)
