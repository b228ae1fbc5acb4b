"""A finished run in Python."""

import dataclasses
import json
import math
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import altair as alt
import polars as pl
import pytest
from run_tables import make_seeds, write_rows
from scipy.stats import ttest_1samp

import safespan
from safespan.errors import DataError
from safespan.files.atomic import write_json
from safespan.report import write_comparison
from safespan.results import TABLES, RunFolder

VALUES = (0.5, 0.42, 0.55, 0.48, 0.52)


@pytest.fixture(scope="module")
def replicated(full_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study under five seeds."""
    root = tmp_path_factory.mktemp("replicated")
    write_comparison(make_seeds(full_run, root / "seeds", VALUES), root)
    return root


class Text(HTMLParser):
    """The text of each cell, and every tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_tables_are_those_of_the_files(full_run: RunFolder) -> None:
    run = safespan.load_run(str(full_run.root))
    assert set(run.tables) == {path.stem for path in (full_run.root / "results").glob("*.csv")} == set(TABLES)
    table = run.table("update")
    plain = pl.read_csv(full_run.root / "results" / "update.csv")
    assert table.shape == plain.shape
    assert table["harmful_probability"].to_list() == plain["harmful_probability"].to_list()
    assert table.schema["draw"] == pl.Int64
    assert list(table.to_pandas().columns) == plain.columns


def test_a_verdict_is_a_frozen_object_with_the_figures_that_it_rests_on(full_run: RunFolder) -> None:
    verdicts = safespan.load_run(full_run.root).verdicts
    written = pl.read_csv(full_run.root / "results" / "verdicts.csv")
    columns = ("hypothesis", "test", "construct", "group", "verdict", "direction", "reason")
    assert sorted(tuple(getattr(row, name) or "" for name in columns) for row in verdicts) == sorted(
        tuple(value or "" for value in row) for row in written.select(columns).rows()
    )
    harm = {(row.hypothesis, row.test): row for row in verdicts if row.construct == "harm"}
    row = harm["lox", "update"]
    assert (row.statistic, row.outcome, row.estimate, row.low, row.high, row.confidence) == (
        "D", "answer probability", 0.021, -0.011, 0.049, 0.98,
    )  # fmt: skip
    assert row.words == "Lox takes harm away before utility"
    assert row.reason == "D = +0.02 [-0.01, +0.05], margin 0.15"
    small = harm["refusal-direction", "update"]
    assert small.statistic is None
    assert math.isnan(small.estimate)
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.verdict = "selective"
    assert pl.DataFrame(verdicts).height == written.height


def test_a_figure_is_a_valid_chart_with_its_data(full_run: RunFolder) -> None:
    run = safespan.load_run(full_run.root)
    assert {"verdicts", "against_controls", "overlap_curves", "spectra"} <= set(run.figures)
    for name in run.figures:
        chart = run.figure(name)
        assert isinstance(chart, alt.TopLevelMixin)
        spec = chart.to_dict(validate=True)
        assert spec["datasets"]["rows"] == run.drawn[name].spec["datasets"]["rows"]
    [row] = [
        row
        for row in run.figure("verdicts").to_dict()["datasets"]["rows"]
        if (row["test"], row["hypothesis"]) == ("training", "alignment")
    ]
    assert (row["statistic"], row["estimate"], row["low"], row["high"]) == ("T", 0.021, -0.011, 0.049)


def test_what_it_prints_says_the_verdicts(full_run: RunFolder) -> None:
    run = safespan.load_run(full_run.root)
    lines = repr(run).splitlines()
    assert lines[1] == (
        "Selective in the update test lox (harm first); in the ablation test refusal-direction (harm first), but "
        "the positive control of this test was not found (by harm), so do not rely on this verdict; in the training "
        "test refusal-direction (protects)."
    )
    assert (
        "  alignment: update harm not selective; refusal not measurable | ablation harm inconclusive; refusal not "
        "measurable | training harm not selective; refusal not measurable"
    ) in lines
    assert "warning: check of the ablation test, harm: positive control (base) NOT found" in repr(run)
    page = Text(run._repr_html_())
    assert "harm selective, harm first (D +0.02 [-0.01, +0.05])" in page.text
    assert page.tags.count("tr") == 1 + 3 + 4  # the head, three claims, four controls


def test_names_of_a_run_are_no_markup(full_run: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    write_rows(run, "models", full_run.read_table("models").to_dicts())
    write_json(run.manifest, {"name": "<script>alert(1)</script>", "config": {}})
    loaded = safespan.load_run(run.root)
    assert "script" not in Text(loaded._repr_html_()).tags
    assert repr(loaded).splitlines()[1] == "No claim was tested."


def test_several_seeds_have_verdicts_on_the_recipe_and_a_run_each(replicated: Path, full_run: RunFolder) -> None:
    run = safespan.load_run(replicated)
    assert list(run.seeds) == [0, 1, 2, 3, 4]
    assert [one.manifest.seed for one in run.seeds.values()] == [0, 1, 2, 3, 4]
    assert run.tables == ("pooled",)
    [row] = [row for row in run.verdicts if (row.hypothesis, row.test) == ("alignment", "update")]
    low, high = ttest_1samp(VALUES, 0.0).confidence_interval(0.95)  # two claims share the level
    assert (row.verdict, row.seeds) == ("selective", 5)
    assert (row.low, row.high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))
    assert "5 seeds" in repr(run)
    assert set(run.seeds[2].table("models")["model"]) == set(full_run.read_table("models")["model"])
    panels = run.figure("parallel_fraction").to_dict()["datasets"]["rows"]
    assert {row["run"] for row in panels} == {"0", "1", "2", "3", "4"}
    with pytest.raises(DataError, match=r"has no table 'models', but pooled; each of its seeds .*run.seeds\[0\]"):
        run.table("models")


def test_a_study_whose_seeds_are_not_all_done_shows_those_that_are(full_run: RunFolder, tmp_path: Path) -> None:
    [first, second] = make_seeds(full_run, tmp_path / "seeds", VALUES[:2])
    second.manifest.unlink()
    run = safespan.load_run(tmp_path)
    assert (list(run.seeds), run.tables, run.verdicts) == ([0], (), [])
    assert set(run.figures) == set(safespan.load_run(first.root).figures)


def test_a_seed_that_lies_elsewhere_is_not_followed(full_run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "run" / "seeds").mkdir(parents=True)
    (tmp_path / "run" / "seeds" / "0").symlink_to(full_run.root)
    with pytest.raises(DataError, match="is a link out of its run folder"):
        safespan.load_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "is not there: expected a run folder"),
        (Path.touch, "is a file: expected a run folder"),
        (Path.mkdir, "holds no table of results: expected .*models.csv"),
    ],
)
def test_a_bad_path_is_one_clear_error(tmp_path: Path, make, message) -> None:
    make(tmp_path / "run")
    with pytest.raises(DataError, match=message):
        safespan.load_run(tmp_path / "run")


def test_a_name_that_is_not_there_is_answered_by_those_that_are(full_run: RunFolder) -> None:
    run = safespan.load_run(full_run.root)
    with pytest.raises(DataError, match="has no table 'updates', but models, "):
        run.table("updates")
    with pytest.raises(DataError, match="has no figure 'verdict', but verdicts, "):
        run.figure("verdict")


def test_no_model_library_is_needed(full_run: RunFolder) -> None:
    code = (
        "import json, sys, safespan\n"
        f"run = safespan.load_run({str(full_run.root)!r}); repr(run); run.figure('verdicts')\n"
        "print(json.dumps([name for name in ('torch', 'transformers', 'datasets') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
