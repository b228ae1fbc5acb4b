from dataclasses import replace

import pytest

from safespan.settings.verdict import SelectivityConfig
from safespan.statistics.bootstrap import Estimate
from safespan.statistics.verdicts import (
    DEPENDS,
    INCONCLUSIVE,
    NOT_SELECTIVE,
    SELECTIVE,
    Verdict,
    ceiling_reason,
    combine_verdicts,
    holm,
    judge,
)

NAN = float("nan")
CONFIG = SelectivityConfig()


def estimate(method, s, beyond=1.0, within=1.0, control=0.5, sd=0.02):
    name = ("D", "") if method == "separation" else ("S", method)
    return Estimate(*name, s, s - 0.03, s + 0.03, control + s, control, 0.02, beyond, within, sd, sd)


def trial(parallel, orthogonal, beyond=1.0, within=1.0, sd=0.02):
    d = (parallel - orthogonal) / 2
    return [
        estimate("parallel", parallel),
        estimate("orthogonal", orthogonal),
        estimate("separation", d, beyond, within, NAN, sd),
    ]


def test_selective_needs_the_margin_and_opposite_signs():
    verdict = judge(trial(0.3, -0.3, beyond=0.01), CONFIG, 100)
    assert (verdict.verdict, verdict.direction) == (SELECTIVE, "harm first")
    assert judge(trial(-0.3, 0.3, beyond=0.01), CONFIG, 100).direction == "utility first"
    same = judge(trial(0.5, 0.1, beyond=0.01), CONFIG, 100)
    assert same.verdict == INCONCLUSIVE
    assert "move the same way" in same.reason


def test_not_selective_is_an_equivalence_and_not_an_absence_of_significance():
    assert judge(trial(0.02, -0.02, within=0.01), CONFIG, 100).verdict == NOT_SELECTIVE
    assert judge(trial(0.02, -0.02, within=0.2), CONFIG, 100).verdict == INCONCLUSIVE


def test_an_inconclusive_one_says_how_many_prompts_and_controls_would_decide():
    """The half-width z·sd has to shrink to the distance from the margin; widths fall with the root of the number."""
    verdict = judge(trial(0.25, -0.25, beyond=0.2, sd=0.1), CONFIG, 100)
    factor = (1.6449 * 0.1 * 2**0.5 / 0.1) ** 2
    assert verdict.prompts_needed == pytest.approx(100 * factor, rel=0.01)
    assert verdict.controls_needed == pytest.approx(5 * factor, rel=0.1)
    strict = judge(trial(0.25, -0.25, beyond=0.2, sd=0.1), CONFIG, 100, tests=10)
    assert strict.prompts_needed > verdict.prompts_needed
    near = judge(trial(0.15, -0.15, beyond=0.5, within=0.5), CONFIG, 100)
    assert near.prompts_needed is None
    assert "too near the margin" in near.reason


def test_holm_is_over_hypotheses_and_methods_of_one_outcome():
    """Holm by hand: p sorted, times m, m − 1, …, made monotone."""
    one = [replace(estimate("edit", 0.2), p_beyond=0.01, p_within=0.9), estimate("separation", -0.2, 0.04, 0.2)]
    two = [replace(estimate("edit", 0.2), p_beyond=0.03, p_within=0.9), estimate("separation", -0.2, 0.02, 0.2)]
    other = [estimate("edit", 0.2, 0.02)]
    keys = [("a", "update", "x"), ("b", "update", "x"), ("a", "update", "y"), ("a", "ablation", "x")]
    corrected = holm(dict(zip(keys, (one, two, other, other), strict=True)))
    assert [e.p_beyond for e in corrected[keys[0]]] == pytest.approx([0.04, 0.06])
    assert [e.p_beyond for e in corrected[keys[1]]] == pytest.approx([0.06, 0.06])
    assert [corrected[key][0].p_beyond for key in keys[2:]] == pytest.approx([0.02, 0.02])


@pytest.mark.parametrize(
    ("statistic", "words"), [("A", ("harm first", "utility first")), ("T", ("protects", "exposes"))]
)
def test_one_number_decides_an_ablation_and_a_training(statistic, words):
    for value, direction in zip((0.3, -0.3), words, strict=True):
        [deciding] = [replace(estimate("separation", value, beyond=0.01), statistic=statistic)]
        verdict = judge([deciding], CONFIG, 100)
        assert (verdict.verdict, verdict.direction) == (SELECTIVE, direction)
        assert verdict.reason.startswith(f"{statistic} = {value:+.2f}")


def test_controls_that_are_at_the_end_already_leave_no_room():
    assert "leave no room" in ceiling_reason([estimate("edit", 0.0, control=0.1)], CONFIG)
    assert ceiling_reason([estimate("edit", 0.0, control=0.5)], CONFIG) == ""
    crowded = [estimate("parallel", 0.0, control=0.98), estimate("orthogonal", 0.0, control=0.1)]
    assert "D is 0.06 at most" in ceiling_reason(crowded, CONFIG)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([Verdict(SELECTIVE, "", "harm first"), Verdict(SELECTIVE, "", "harm first")], SELECTIVE),
        ([Verdict(SELECTIVE, "", "harm first"), Verdict(SELECTIVE, "", "utility first")], DEPENDS),
        ([Verdict(SELECTIVE, "", "harm first"), Verdict(NOT_SELECTIVE, "")], DEPENDS),
        ([Verdict(NOT_SELECTIVE, ""), Verdict(NOT_SELECTIVE, "")], NOT_SELECTIVE),
        ([Verdict(NOT_SELECTIVE, ""), Verdict(INCONCLUSIVE, "", "", 200, 7)], INCONCLUSIVE),
    ],
)
def test_outcomes_have_to_agree(verdicts, expected):
    combined = combine_verdicts({f"outcome {number}": verdict for number, verdict in enumerate(verdicts)})
    assert combined.verdict == expected
    if len(verdicts) == 2 and verdicts[1].prompts_needed:
        assert (combined.prompts_needed, combined.controls_needed) == (200, 7)
