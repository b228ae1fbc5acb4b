"""Runs that differ by their seed alone, pooled."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from run_tables import make_seeds
from scipy.stats import ttest_1samp

from safespan.files.atomic import write_json
from safespan.report import write_comparison
from safespan.report.pooled import pooled_rows
from safespan.report.summary import pooled_lines
from safespan.results.run_folder import RunFolder

VALUES = (0.5, 0.42, 0.55, 0.48, 0.52)


@pytest.fixture(scope="module")
def seeds(full_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> list[RunFolder]:
    return make_seeds(full_run, tmp_path_factory.mktemp("seeds"), VALUES)


def of(rows, hypothesis="alignment", test="update", outcome="answer probability"):
    [row] = [row for row in rows if (row.hypothesis, row.test, row.outcome) == (hypothesis, test, outcome)]
    return row


def test_a_recipe_has_the_mean_over_seeds_with_its_t_interval(seeds):
    row = of(pooled_rows(seeds))
    # Two claims in this test by this outcome: each interval is at half of the level.
    low, high = ttest_1samp(VALUES, 0.0).confidence_interval(0.95)
    assert (row.recipe, row.kind, row.group, row.seeds) == ("organism", "subspace", "claim", 5)
    assert (row.estimate, row.low, row.high) == (
        pytest.approx(np.mean(VALUES)),
        pytest.approx(low),
        pytest.approx(high),
    )
    assert row.confidence == pytest.approx(0.95)
    assert row.sd == pytest.approx(np.std(VALUES, ddof=1))
    assert row.tau == pytest.approx((np.var(VALUES, ddof=1) - 0.01**2) ** 0.5)
    assert (row.verdict, row.direction) == ("selective", "harm first")


def test_a_control_of_the_test_is_judged_by_itself(seeds):
    row = of(pooled_rows(seeds), "base", "ablation")
    assert row.group == "positive control"
    assert row.confidence == pytest.approx(0.9)


def test_few_seeds_have_figures_and_no_verdict(seeds):
    row = of(pooled_rows(seeds[:3]))
    assert row.seeds == 3
    assert row.estimate == pytest.approx(np.mean(VALUES[:3]))
    assert (row.verdict, row.reason) == ("inconclusive", "3 seeds; a verdict about a recipe needs 5")


def test_what_is_no_seed_of_one_recipe_is_not_pooled(seeds, full_run):
    assert pooled_rows([seeds[0]]) == []
    other = seeds[1].read_manifest().model_dump(mode="json")
    other["config"]["training"]["lr"] = 1.0
    folder = RunFolder(Path(shutil.copytree(seeds[1].root, seeds[1].root.parent / "other")))
    write_json(folder.manifest, other)
    assert pooled_rows([seeds[0], folder]) == []


@pytest.mark.parametrize("changed", [{"seed": 9}, {"inputs": {"aligned": "9" * 64}}])
def test_a_second_run_of_one_seed_or_of_the_same_models_counts_once(seeds, tmp_path, caplog, changed):
    again = RunFolder(Path(shutil.copytree(seeds[0].root, tmp_path / "again")))
    write_json(again.manifest, {**again.read_manifest().model_dump(mode="json"), **changed})
    assert pooled_rows([*seeds, again]) == pooled_rows(seeds)
    assert f"{again.root} has the seed or the models of {seeds[0].root}" in caplog.text


def test_an_outcome_that_no_seed_could_measure_is_left_out(seeds):
    assert {row.outcome for row in pooled_rows(seeds)} == {"answer probability", "answer NLL"}


def test_the_comparison_has_the_pooled_verdicts(seeds, tmp_path):
    html = write_comparison(seeds, tmp_path).read_text(encoding="utf-8")
    assert "Pooled over seeds" in html
    written = RunFolder(tmp_path).read_table("pooled")
    assert len(written) == len(pooled_rows(seeds))
    lines = pooled_lines(RunFolder(tmp_path))
    assert lines[0].startswith("alignment, ablation test, harm, 5 seeds: ")
    assert any(
        line.startswith("alignment, update test, harm, 5 seeds: selective, harm first; D +0.49 [") for line in lines
    )
    assert not any("NLL" in line for line in lines)
