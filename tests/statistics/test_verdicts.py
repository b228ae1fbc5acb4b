import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats import t as student
from statsmodels.stats.multitest import multipletests

from safespan.statistics.effects import Effect
from safespan.statistics.verdicts import (
    INCONCLUSIVE,
    NOT_SELECTIVE,
    SELECTIVE,
    ceiling_reason,
    holm,
    judge_family,
)


def effect(statistic, value, method="", sd=0.02, sd_prompts=0.02, control=0.5, draws=8, prompts=100):
    """An effect of this value whose controls and prompts have exactly these standard deviations."""
    rng = np.random.default_rng(0)
    beside, drawn = rng.standard_normal(draws), rng.standard_normal(500)
    beside = control + sd * (beside - beside.mean()) / beside.std(ddof=1)
    drawn = value + sd_prompts * (drawn - drawn.mean()) / drawn.std(ddof=1)
    own = control + (-value if statistic == "T" else value)
    return Effect(statistic, method, own, beside, drawn, prompts)


def trial(parallel, orthogonal, **options):
    return [
        effect("S", parallel, "parallel"),
        effect("S", orthogonal, "orthogonal"),
        effect("D", (parallel - orthogonal) / 2, **options),
    ]


def verdict(effects, others=(), construct="harm", margin=0.15, level=0.05):
    """Of the first of several claims."""
    family = {"own": effects, **{f"other {number}": of for number, of in enumerate(others)}}
    return judge_family(family, construct, margin, level)["own"].verdict


def test_selective_needs_the_margin_and_opposite_signs():
    found = verdict(trial(0.3, -0.3))
    assert (found.verdict, found.direction) == (SELECTIVE, "harm first")
    assert verdict(trial(-0.3, 0.3)).direction == "utility first"
    assert verdict(trial(0.3, -0.3), construct="refusal").direction == "refusal lost first"
    same = verdict(trial(0.7, 0.1))
    assert same.verdict == INCONCLUSIVE
    assert "move the same way" in same.reason


def test_not_selective_is_an_equivalence_and_not_an_absence_of_significance():
    assert verdict(trial(0.02, -0.02)).verdict == NOT_SELECTIVE
    assert verdict(trial(0.02, -0.02, sd_prompts=0.2)).verdict == INCONCLUSIVE


def test_a_claim_within_the_spread_of_random_subspaces_is_never_selective():
    spread = verdict(trial(0.4, -0.4, sd=0.3, sd_prompts=0.001, draws=200))
    assert spread.verdict == INCONCLUSIVE
    assert "random controls differ as much from one another (standard deviation 0.30)" in spread.reason
    assert (spread.prompts_needed, spread.controls_needed) == (None, None)


def test_beyond_the_margin_and_not_yet_beyond_few_random_subspaces():
    """R − 1 degrees of freedom of few draws ask for more than the margin does."""
    few = verdict(trial(0.6, -0.6, sd=0.1, sd_prompts=0.001, draws=3), level=0.012)
    assert few.verdict == INCONCLUSIVE
    assert "not yet beyond what 3 random controls differ by (standard deviation 0.10)" in few.reason
    more = few.controls_needed
    assert [student.isf(0.012, r - 1) * 0.1 * (1 + 1 / r) ** 0.5 < 0.6 for r in (more - 1, more)] == [False, True]


def test_an_inconclusive_one_says_how_many_prompts_and_controls_would_decide():
    """The half-width z·SE has to shrink to the distance from the margin; it falls with the root of the number."""
    wide = trial(0.25, -0.25, sd_prompts=0.1)
    found, error = verdict(wide), wide[-1].error
    factor = (norm.isf(0.05) * error / 0.1) ** 2
    assert found.prompts_needed == pytest.approx(100 * factor, rel=0.02)
    assert found.controls_needed == pytest.approx(8 * factor, rel=0.1)
    strict = verdict(wide, [trial(0.0, 0.0)] * 9)
    assert strict.prompts_needed > found.prompts_needed
    near = verdict(trial(0.15, -0.15))
    assert near.prompts_needed is None
    assert near.reason.endswith("a decision is out of reach: it would take more than 100 controls")
    for value, within in ((0.22, True), (0.18, False)):  # (1.645 · 0.1 / 0.07)² · 8 = 44 controls, and 240
        found = verdict(trial(value, -value, sd_prompts=0.1))
        assert (found.controls_needed is not None, "out of reach" not in found.reason) == (within, within)


def test_several_claims_are_corrected_and_the_intervals_with_them():
    """One claim alone is selective; the same one among twenty that are not is undecided, and has a wider interval."""
    own = trial(0.2, -0.2, sd=0.03, sd_prompts=0.02)
    assert verdict(own).verdict == SELECTIVE
    assert verdict(own, [trial(0.0, 0.0)] * 19).verdict == INCONCLUSIVE
    family = {"own": own, **{f"other {number}": trial(0.0, 0.0) for number in range(19)}}
    judged = judge_family(family, "harm", 0.15, 0.05)
    assert {one.level for one in judged.values()} == {0.05 / 20}
    p_values = [effects[-1].p_selective(0.15) for effects in family.values()]
    assert judged["own"].p == pytest.approx(min(1.0, 20 * min(p_values)))


@settings(max_examples=6)  # statsmodels collects garbage in every call
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([]) == []


@pytest.mark.parametrize(
    ("statistic", "words"), [("A", ("harm first", "capability lost first")), ("T", ("protects", "exposes"))]
)
def test_one_number_decides_an_ablation_and_a_training(statistic, words):
    for value, direction in zip((0.4, -0.4), words, strict=True):
        found = verdict([effect(statistic, value)])
        assert (found.verdict, found.direction) == (SELECTIVE, direction)
        assert found.reason.startswith(f"{statistic} = {value:+.2f}")


def test_a_training_says_how_many_controls_would_decide_or_that_other_seeds_could():
    """SE = s √(1 + 1/R) does not fall below s."""
    few = verdict([effect("T", 0.6, sd=0.2, draws=3)])
    assert few.verdict == INCONCLUSIVE
    assert few.prompts_needed is None
    assert few.controls_needed > 3
    apart = verdict([effect("T", 0.0, sd=0.3, draws=3)])
    assert "other seeds could" in apart.reason
    assert apart.controls_needed is None


def test_controls_that_are_at_the_end_already_leave_no_room():
    assert "leave no room" in ceiling_reason([effect("S", 0.0, "edit", control=0.1)], 0.15)
    assert ceiling_reason([effect("S", 0.0, "edit", control=0.5)], 0.15) == ""
    crowded = [effect("S", 0.0, "parallel", control=0.98), effect("S", 0.0, "orthogonal", control=0.1)]
    assert "D is 0.06 at most" in ceiling_reason(crowded, 0.15)
