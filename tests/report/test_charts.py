"""What the charts draw, beside figures worked out from the tables by hand."""

import polars as pl
import pytest

from safespan.report.charts import (
    against_controls,
    forest,
    harm_against_capability,
    harm_along_training,
    overlap_heatmap,
    removed_energy,
)
from safespan.results.run_folder import RunFolder


def of(rows: pl.DataFrame, **where: object) -> list[dict]:
    """The rows with these values."""
    return rows.filter(*(pl.col(name).eq_missing(value) for name, value in where.items())).to_dicts()


def test_the_bands_are_the_range_of_the_controls(full_run: RunFolder) -> None:
    figure = against_controls(full_run.read_table("update"))
    assert figure is not None
    rows = figure.data["rows"]
    assert set(rows["hypothesis"]) == {"lox", "alignment"}
    place = {"hypothesis": "alignment", "method": "parallel", "fraction": 0.1, "measure": "attack_success_rate"}
    [row] = of(rows, **place)
    assert (row["value"], row["control_low"], row["control_high"]) == (0.4, 0.7, 0.7)
    assert [panel["title"] for panel in figure.spec["concat"]][:3] == [
        "Forbidden answers, probability", "Compliance at the first token", "Refusal log-odds, nats",
    ]  # fmt: skip
    [log_odds] = of(rows, **{**place, "measure": "log_odds"})
    assert log_odds["value"] == -1.0
    scales = [panel["layer"][0]["encoding"]["y"]["scale"] for panel in figure.spec["concat"][:3]]
    assert scales == [{"domain": [0, 1]}, {"domain": [0, 1]}, {"zero": False}]


def test_an_ablation_starts_at_the_aligned_model_and_its_lines_never_fall(full_run: RunFolder) -> None:
    ablation = full_run.read_table("ablation")
    fallen = ablation.with_columns(
        harmful_probability=pl.when(pl.col("fraction") == 1).then(0.5).otherwise("harmful_probability"),
        capability_lost=pl.when(pl.col("fraction") == 0.1).then(-0.05).otherwise("capability_lost"),
    )
    figure = harm_against_capability(fallen)
    assert figure is not None
    rows = figure.data["rows"]
    for draw in (None, 0, 1):
        place = {"hypothesis": "refusal-direction", "draw": draw, "measure": "harmful_probability"}
        own = of(rows, **place)
        assert {row["series"] for row in own} == {"claim" if draw is None else "random directions"}
        assert (own[1]["strength"], own[1]["capability_lost"], own[1]["value"]) == (0, 0, 0.01)
        divisor = 1 if draw is None else 2
        assert [row["capability_lost"] for row in own] == [-0.05, 0, 0.3 / divisor, 0.8 / divisor]
    claim = of(rows, hypothesis="refusal-direction", draw=None, measure="harmful_probability")
    assert [row["value"] for row in claim][-2:] == pytest.approx([0.5**0.2, 0.5], abs=1e-6)
    assert [row["highest"] for row in claim][-2:] == pytest.approx([0.5**0.2] * 2, abs=1e-6)
    assert {row["measure"] for row in rows.to_dicts()} == {"harmful_probability", "compliance", "log_odds"}
    # The axis reaches as far as the points: what is destroyed is shaded up to the last of them, if there is any.
    assert figure.data["destroyed"].rows() == [("alignment", 0.5, 0.8), ("refusal-direction", 0.5, 0.8)]
    assert all("domain" not in layer["encoding"]["x"]["scale"] for layer in figure.spec["concat"][0]["layer"])
    whole = harm_against_capability(ablation.filter(pl.col("fraction") < 1))
    assert whole is not None
    assert whole.data["destroyed"].is_empty()
    assert harm_against_capability(ablation.clear()) is None


def test_a_training_stands_beside_the_random_subspaces_of_its_own_group(full_run: RunFolder) -> None:
    training = full_run.read_table("training")
    figure = harm_along_training(training)
    assert figure is not None
    rows = figure.data["rows"]
    place = {"step": 20, "measure": "harmful_probability"}
    for name, own, low, high in (("alignment", 0.93, 0.9, 0.95), ("refusal-direction", 0.1, 0.7, 0.75)):
        assert {row["run"] for row in of(rows, hypothesis=name, **place)} == {"claim", "random", "unprotected", "clean"}
        [claim] = of(rows, hypothesis=name, run="claim", **place)
        assert claim["value"] == own
        [random] = of(rows, hypothesis=name, run="random", **place)
        assert (random["low"], random["high"], random["trainings"]) == (low, high, 2)
        assert random["value"] == pytest.approx((low + high) / 2)
        ends = [of(rows, hypothesis=name, run=run, **place)[0]["value"] for run in ("unprotected", "clean")]
        assert ends == [1.0, 0.02]
    assert set(rows["measure"]) == {"harmful_probability", "compliance", "log_odds", "useful_probability"}
    assert harm_along_training(training.filter(pl.col("run") != "claim")) is None


def test_the_forest_has_a_panel_a_test_of_the_outcomes_that_vote(full_run: RunFolder) -> None:
    estimates = full_run.read_table("estimates")
    figure = forest(estimates, 0.15)
    assert figure is not None
    assert figure.name == "verdicts"
    assert [panel["title"] for panel in figure.spec["concat"]] == ["Update test", "Ablation test", "Training test"]
    rows = figure.data["rows"]
    # The refusal log-odds were not measured, and the NLL does not vote.
    assert set(rows["outcome"]) == {"answer probability"}
    assert set(rows.select("test", "hypothesis", "statistic", "estimate", "low", "high").rows()) == {
        (test, name, statistic, 0.021, -0.011, 0.049)
        for test, statistic, names in (
            ("update", "D", ("alignment", "lox", "harmful-update", "random")),
            ("ablation", "A", ("alignment", "refusal-direction", "base")),
            ("training", "T", ("alignment", "refusal-direction", "clean")),
        )
        for name in names
    }
    assert forest(estimates.filter(~pl.col("votes")), 0.15) is None


def test_the_axes_of_the_forest_hold_every_interval_and_the_margin(full_run: RunFolder) -> None:
    estimates = full_run.read_table("estimates")

    def domains(table: pl.DataFrame, margin: float | None = 0.15) -> list[list[float]]:
        figure = forest(table, margin)
        assert figure is not None
        return [panel["layer"][-1]["encoding"]["x"]["scale"]["domain"] for panel in figure.spec["concat"]]

    assert domains(estimates) == [[-0.2, 0.2]] * 3
    beyond = pl.when(hypothesis="base").then(1.03).otherwise("high")
    assert domains(estimates.with_columns(high=beyond)) == [[-0.2, 1.1]] * 3
    below = estimates.with_columns(low=pl.lit(-1.24))
    assert domains(below, None) == [[-1.3, 0.1]] * 3


def test_the_colours_of_overlap_are_those_of_its_range(full_run: RunFolder) -> None:
    figure = overlap_heatmap(full_run.read_table("overlap"))
    assert figure is not None
    color = figure.spec["concat"][0]["encoding"]["color"]
    assert (color["scale"]["domain"], color["scale"]["clamp"]) == ([0, 1], True)
    assert "from 0 (chance or less) to 1" in figure.caption


def test_the_forest_does_not_depend_on_the_order_of_rows(full_run: RunFolder) -> None:
    estimates = full_run.read_table("estimates")
    drawn, shuffled = (forest(table, 0.15) for table in (estimates, estimates.sample(fraction=1, shuffle=True, seed=1)))
    assert drawn is not None
    assert shuffled is not None
    assert set(drawn.data["rows"].rows()) == set(shuffled.data["rows"].rows())
    panels = ({panel["title"] for panel in figure.spec["concat"]} for figure in (drawn, shuffled))
    assert next(panels) == next(panels)


def test_removed_energy_of_a_layer_is_that_of_its_modules_together(full_run: RunFolder) -> None:
    removed = full_run.read_table("removed_energy")
    figure = removed_energy(removed, "layer")
    assert figure is not None
    keys = {"finetune": "useful", "subspace": "random", "method": "parallel"}
    own = [pl.col(name) == value for name, value in keys.items()]
    [drawn] = figure.data["rows"].filter(*own, pl.col("layer") == "1")["removed_energy"]
    parts = removed.filter(*own, pl.col("fraction") == 0.5, pl.col("layer") == "layer 1")
    shares, gone = parts["share_of_update"].to_numpy(), parts["removed_energy"].to_numpy()
    assert drawn == pytest.approx((shares @ gone) / shares.sum(), abs=1e-6)
