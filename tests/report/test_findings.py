"""What the analysis commands say, beside figures worked out from the tables by hand."""

import math

import polars as pl
import pytest
from rich.console import Console
from rich.table import Table

from safespan.report.charts import energy_inside as chart_of_energy
from safespan.report.export.figures import WIDTH, size_of, write_figure
from safespan.report.findings import (
    Findings,
    activation_findings,
    energy_inside,
    overlap_findings,
    sweep_findings,
)
from safespan.results.run_folder import RunFolder


def text_of(findings: Findings) -> str:
    console = Console(width=240)
    with console.capture() as captured:
        for line in findings.lines:
            console.print(line, markup=False, highlight=False, soft_wrap=not isinstance(line, Table))
    return captured.get()


def points(**kept: float) -> pl.DataFrame:
    """One fine-tune at f = 1/4; kept: subspace, two underscores, method -> the energy kept."""
    rows = [
        {"finetune": "useful", "subspace": name.split("__")[0], "method": name.split("__")[1], "fraction": 0.25}
        | {"energy_kept": value}
        for name, value in kept.items()
    ]
    return pl.DataFrame(rows, schema_overrides={"energy_kept": pl.Float64})


@pytest.mark.parametrize(("method", "kept"), [("parallel", 0.4), ("opposite", 0.4), ("orthogonal", 0.6)])
def test_the_energy_inside_is_the_same_by_every_method(method: str, kept: float) -> None:
    random = {f"random__{method}": 0.25 if kept == 0.4 else 0.75}
    findings = sweep_findings(points(**{f"alignment__{method}": kept}, **random))
    [own, other] = findings.rows
    assert (own["finetune"], own["subspace"], own["fraction"]) == ("useful", "alignment", 0.25)
    assert own["energy_inside"] == pytest.approx(0.4)
    assert own["times_random"] == pytest.approx(1.6)
    assert other["times_random"] == pytest.approx(1)
    said = text_of(findings)
    assert "alignment holds 0.40 of the useful update's energy at f = 0.25, 1.6 times what a random subspace" in said
    assert "0.40 (1.6 ×)" in said


def test_without_a_random_subspace_there_is_nothing_to_compare_with() -> None:
    said = text_of(sweep_findings(points(alignment__parallel=0.4)))
    assert "alignment holds 0.40 of the useful update's energy at f = 0.25.\n" in said
    assert "×" not in said


def test_an_update_of_zero_has_no_energy(full_run: RunFolder) -> None:
    table = full_run.read_table("projection")
    none = sweep_findings(table.with_columns(energy_kept=pl.lit(None, pl.Float64)))
    assert (none.rows, len(none.lines)) == ([], 1)
    assert chart_of_energy(energy_inside(table.clear())) is None


def test_a_fine_tune_that_changes_nothing_is_named() -> None:
    table = points(alignment__parallel=0.4, random__parallel=0.25)
    both = pl.concat([table, table.with_columns(finetune=pl.lit("copy"), energy_kept=pl.lit(None, pl.Float64))])
    findings = sweep_findings(both)
    assert {row["finetune"] for row in findings.rows} == {"useful"}
    assert "Without energy, as equal to the aligned model: copy." in text_of(findings)


def test_less_than_random_is_not_rounded_to_nothing() -> None:
    said = text_of(sweep_findings(points(alignment__parallel=0.005, random__parallel=0.25)))
    assert "0.02 times what a random subspace" in said
    assert "(0.02 ×)" in said


def test_a_large_sweep_is_said_in_twelve_lines_claims_first(full_run: RunFolder) -> None:
    table = full_run.read_table("projection")
    findings = sweep_findings(table)
    assert len(findings.rows) == 3 * 4 * 5
    said = text_of(findings).splitlines()
    assert len(said) <= 12
    shown = [tuple(line.split()[:2]) for line in said if "×" in line]
    assert shown == [(name, kind) for name in ("useful", "harmful", "contaminated") for kind in ("alignment", "safety")]
    assert said[-1] == "6 of 12 rows are shown; the table has all."


def test_the_overlap_of_a_pair_is_the_mean_over_groups_with_its_floor() -> None:
    rows = [
        {"x": "alignment", "y": "useful", "again": False, "granularity": "layer", "energy_fraction": energy}
        | {"mso": mso, "mso_random": floor}
        for energy, values in {0.5: ((0.2, 0.1), (0.4, 0.2), (None, None)), 0.9: ((0.6, 0.3), (0.8, 0.5))}.items()
        for mso, floor in values
    ]
    findings = overlap_findings(pl.DataFrame(rows))
    assert [(row["energy_fraction"], row["groups"]) for row in findings.rows] == [(0.5, 2), (0.9, 2)]
    assert [row["mso"] for row in findings.rows] == pytest.approx([0.3, 0.7])
    assert [row["mso_random"] for row in findings.rows] == pytest.approx([0.15, 0.4])
    said = text_of(findings)
    assert "mean over layers (by number of columns)" in said
    assert "as an update is zero there (layers (by number of columns)): alignment – useful 1 of 3." in said
    assert "alignment – useful  0.30 (floor 0.15)  0.70 (floor 0.40)" in said
    empty = overlap_findings(pl.DataFrame(rows).with_columns(mso=pl.lit(None, pl.Float64)))
    assert (empty.rows, len(empty.lines)) == ([], 1)


def activations(**columns: object) -> pl.DataFrame:
    rows = [
        {"model": "mine", "layer": layer, "centered": True, "energy_fraction": energy, "mso": layer / 20 + energy / 5}
        | {"mso_random": 0.1, "p_value": 0.01 if layer < 3 else 0.6}
        for layer in range(1, 11)
        for energy in (0.1, 0.5)
    ]
    return pl.DataFrame(rows).with_columns(**columns)


def separation(**columns: object) -> pl.DataFrame:
    rows = [{"layer": n, "mean_difference_auroc": 0.5 + n / 25, "probe_auroc": 0.99} for n in range(1, 11)]
    return pl.DataFrame(rows).with_columns(**columns)


def test_activations_are_said_with_their_layers() -> None:
    findings = activation_findings(activations(), separation())
    assert len(findings.rows) == 10
    assert findings.rows[0]["mso"] == pytest.approx(0.15)
    assert findings.rows[0]["mean_difference_auroc"] == pytest.approx(0.54)
    said = text_of(findings)
    assert "(MSO, centred, energy 0.5), model mine: 0.15 (layer 1) to 0.60 (layer 10)" in said
    assert "less than random groups of the same prompts at 2 of 10 layers (p < 0.05 at each, not corrected" in said
    assert "smallest p 0.010)" in said
    assert "by the difference of means 0.54 (layer 1) to 0.90 (layer 10), by a linear probe 0.99 (10 layers)" in said
    shown = [line.split()[0] for line in said.splitlines() if line[:2].strip().isdigit()]
    assert shown == ["1", "3", "5", "6", "8", "10", "6"]  # the last says that 6 of 10 are shown
    assert len(said.splitlines()) <= 12


@pytest.mark.parametrize(("p_value", "shown"), [(1 / 201, "0.005"), (1 / 5001, "< 0.001"), (1 / 11, "0.091")])
def test_a_p_value_is_never_zero_and_the_smallest_is_said(p_value: float, shown: str) -> None:
    """With ten permutations no layer can be below 0.05: the smallest p says so."""
    said = text_of(activation_findings(activations(p_value=pl.lit(p_value)), separation()))
    assert f"at {10 if p_value < 0.05 else 0} of 10 layers" in said
    assert f"smallest p {shown})" in said
    assert said.count(f"  {shown}  ") == 6


def test_activations_without_centring_permutations_or_folds() -> None:
    nothing = pl.lit(None, pl.Float64)
    table = activations(centered=pl.lit(False), p_value=nothing)
    said = text_of(activation_findings(table, separation(mean_difference_auroc=nothing, probe_auroc=nothing)))
    assert "(MSO, raw, energy 0.5)" in said
    assert "a large common mean, which raises the overlap: see --center" in said
    assert "random groups" not in said
    assert "No AUROC: too few prompts" in said
    assert not math.isnan(activation_findings(table, separation()).rows[0]["mso"])


def test_a_chart_fits_a_column_and_has_its_caption_for_those_who_cannot_see_it(full_run: RunFolder, tmp_path) -> None:
    figure = chart_of_energy(energy_inside(full_run.read_table("projection")))
    assert figure is not None
    write_figure(tmp_path / "a.svg", figure)
    svg = (tmp_path / "a.svg").read_text()
    assert size_of(svg)[0] <= WIDTH
    assert "<title>Energy of each update inside a subspace</title><desc>The share of" in svg
    assert [path.name for path in tmp_path.iterdir()] == ["a.svg"]
