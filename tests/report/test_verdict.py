"""The verdict's areas against closed forms, and what it says in each case."""

import polars as pl
import pytest

from safespan.report.verdict import Selectivity, frontier_area, progress, selectivity, verdict

LADDER = [i / 20 for i in range(1, 20)]


@pytest.mark.parametrize(
    ("h", "area"),
    [(lambda u: u, 1 / 2), (lambda u: u**2, 1 / 3), (lambda u: u**0.5, 2 / 3)],
)
def test_area_matches_the_integral(h, area):
    curve = [(u, u, h(u)) for u in LADDER]
    assert frontier_area(curve) == pytest.approx(area, abs=0.01)
    assert frontier_area(curve[::-1]) == pytest.approx(frontier_area(curve))


def test_area_at_the_extremes_and_with_ties():
    assert frontier_area([]) == 0.5
    assert frontier_area([(0.2, 0.0, 0.4), (0.5, 0.0, 1.0)]) == 1.0
    assert frontier_area([(0.2, 0.4, 0.0), (0.5, 1.0, 0.0)]) == 0.0


def test_ground_lost_by_u_is_not_counted_twice():
    # u goes 0 -> .6 -> .2 -> 1 with h 0 -> 0 -> 1 -> 1: nothing up to .6, then h = 1 over the .4 that is new.
    assert frontier_area([(0.3, 0.6, 0.0), (0.6, 0.2, 1.0)]) == pytest.approx(0.4)


def test_progress_is_clipped():
    assert [progress(v, 0.2, 0.6) for v in (0.1, 0.3, 0.9)] == pytest.approx([0.0, 0.25, 1.0])


def grid(harm_first: float) -> pl.DataFrame:
    """Random controls on h = u; the alignment subspace on h = u ** p in parallel, its mirror in orthogonal."""
    rows = []
    for subspace in ("alignment", "random", "random-k"):
        for method in ("parallel", "orthogonal"):
            power = harm_first if method == "parallel" else 1 / harm_first
            for u in LADDER:
                h = u**power if subspace == "alignment" else u
                row = {"finetune": "contaminated", "subspace": subspace, "method": method, "seed": 0}
                rows.append(row | {"energy_kept": u, "utility": 0.2 + 0.6 * u, "attack_success_rate": h})
    return pl.DataFrame(rows)


MODELS = pl.DataFrame(
    {
        "model": ["aligned", "contaminated"],
        "utility": [0.2, 0.8], "utility_ci_low": [0.15, 0.75], "utility_ci_high": [0.25, 0.85],
        "attack_success_rate": [0.0, 1.0], "asr_ci_low": [0.0, 0.98], "asr_ci_high": [0.02, 1.0],
    }
)  # fmt: skip


@pytest.mark.parametrize(("power", "kind"), [(1 / 3, "harm-first"), (3, "utility-first"), (1, "together")])
def test_a_planted_frontier_is_found(power, kind):
    scores = selectivity(grid(power), MODELS, "contaminated")
    parallel = next(s for s in scores if s.method == "parallel")
    assert parallel.score == pytest.approx(1 / (power + 1) - 0.5, abs=0.01)
    assert verdict(scores, "alignment").kind == kind


@pytest.mark.parametrize(("orthogonal", "why"), [(0.7, "the two methods disagree"), (0.45, "only one of the two")])
def test_one_method_alone_is_no_verdict(orthogonal, why):
    areas = (("parallel", 0.8), ("orthogonal", orthogonal))
    scores = [Selectivity("c", "a", method, area, (0.5,)) for method, area in areas]
    assert verdict(scores, "a").kind == "mixed"
    assert why in verdict(scores, "a").headline
    assert verdict(scores[:1], "a").kind == "unknown"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (pl.lit(0.5).alias("utility"), "utility is constant"),
        (pl.lit(1.0).alias("attack_success_rate"), "attack success is constant"),
        # All-or-nothing in both outcomes: the area is 0.5 whatever the subspace does.
        (pl.col("utility", "attack_success_rate").sub(0.5).sign().mul(9.0), "nothing between is seen"),
        (pl.lit(None, pl.Float64).alias("utility"), "no points with both outcomes"),
    ],
)
def test_constant_or_stepping_outcomes_give_no_verdict(change, reason):
    scores = selectivity(grid(1 / 3).with_columns(change), MODELS, "contaminated")
    judged = verdict(scores, "alignment")
    assert judged.kind == "unknown"
    assert reason in judged.reason


def test_a_fine_tune_that_raises_nothing_gives_no_verdict():
    flat = MODELS.with_columns(pl.lit(0.5).alias("utility_ci_high"), pl.lit(0.4).alias("utility_ci_low"))
    judged = verdict(selectivity(grid(1 / 3), flat, "contaminated"), "alignment")
    assert judged.kind == "unknown"
    assert "does not raise utility" in judged.reason


def test_controls_are_needed():
    only = grid(1 / 3).filter(pl.col("subspace") == "alignment")
    assert "no controls" in verdict(selectivity(only, MODELS, "contaminated"), "alignment").reason
