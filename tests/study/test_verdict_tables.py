"""From what was measured of every point to the rows of a verdict."""

from functools import partial
from itertools import product

import numpy as np
import polars as pl
import pytest

from safespan.evaluation import Measured
from safespan.projection import update_points
from safespan.results import frame_of, schema_of
from safespan.results.claim_tables import EstimateRow, VerdictRow
from safespan.settings.verdict import VerdictConfig
from safespan.statistics.verdicts import NOT_MEASURABLE, NOT_SELECTIVE, SELECTIVE
from safespan.study.evidence import OUTCOMES, update_evidence
from safespan.study.verdicts import ClaimInTest, verdict_tables
from safespan.subspaces import find_hypothesis

SETTINGS = VerdictConfig(fractions=(0.1, 0.3, 0.5, 0.7, 0.9), prompts=40, resamples=2000)


def measured(u, h, rng, flat=()):
    """Answers of a model with progress u and h to 40 prompts of each kind: likelihoods fall from 5 to 1 nats."""

    def around(value, size):
        return (value + size * rng.standard_normal(40)).tolist()

    per_prompt = {
        "useful_probability": (0.9 * u + 0.05 + 0.02 * rng.standard_normal(40)).tolist(),
        "harmful_probability": (0.9 * h + 0.05 + 0.02 * rng.standard_normal(40)).tolist(),
        "useful_nll": around(5 - 4 * u, 0.2),
        "harmful_nll": around(5 - 4 * h, 0.2),
        "log_odds": around(12 * h - 6, 0.5),
        "correct": (rng.random(40) < 0.1 + 0.8 * u).astype(float).tolist(),
        "attack": (rng.random(40) < h).astype(float).tolist(),
        "not_refused": (rng.random(40) < h).astype(float).tolist(),
    }
    return Measured(per_prompt | {name: [3.0] * 40 for name in flat}, {})


def trial(name, harm, finetunes=("contaminated",), flat=()):
    """Points of one hypothesis; `harm` gives h at progress u, of its own (by method) and of controls."""
    rng = np.random.default_rng(0)
    points = update_points(find_hypothesis(name), finetunes, SETTINGS.fractions, SETTINGS.controls)
    answers = {"aligned": measured(0, 0, rng, flat)} | {role: measured(1, 1, rng, flat) for role in finetunes}
    for point in points:
        u = point.fraction if point.method == "parallel" else 1 - point.fraction
        h = harm[point.method](u) if point.draw is None else u
        answers[point.name] = measured(u, h, rng, flat)
    return points, answers


def tables(name, *given, **options):
    """The verdict of one hypothesis, and its estimates by outcome and method."""
    verdicts, estimates = verdict_tables(SETTINGS, [put_to_test(name, *trial(name, *given, **options))])
    [verdict] = verdicts
    assert verdict.hypothesis == name
    assert {(row.hypothesis, row.test) for row in estimates} == {(name, "update")}
    by_place = {(row.outcome, row.method): row for row in estimates}
    assert len(by_place) == len(estimates)
    return verdict, by_place


def put_to_test(name, points, answers):
    """One hypothesis in the update test."""
    own = [point for point in points if point.hypothesis == name]
    evidence = partial(update_evidence, SETTINGS, own, answers, seed=0)
    return ClaimInTest(name, find_hypothesis(name).kind, "update", None, lambda outcome: evidence(outcome=outcome))


HARM_FIRST = {"parallel": lambda u: u**0.2, "orthogonal": lambda u: u**5}
TOGETHER = {"parallel": lambda u: u, "orthogonal": lambda u: u}


@pytest.mark.parametrize("finetunes", [("contaminated",), ("useful", "harmful")])
def test_a_subspace_that_carries_harm_first_is_selective_and_one_that_does_not_is_not(finetunes):
    verdict, estimates = tables("alignment", HARM_FIRST, finetunes=finetunes)
    assert (verdict.kind, verdict.verdict, verdict.direction) == ("subspace", SELECTIVE, "harm first")
    assert set(estimates) == set(product(OUTCOMES, ("parallel", "orthogonal", "both")))
    for (_, method), row in estimates.items():
        assert row.statistic == ("D" if method == "both" else "S")
        assert row.low < row.estimate < row.high
    assert tables("alignment", TOGETHER, finetunes=finetunes)[0].verdict == NOT_SELECTIVE


def test_the_row_of_d_alone_decides_and_says_why():
    verdict, estimates = tables("alignment", HARM_FIRST)
    decided = ("verdict", "direction", "prompts_needed", "controls_needed", "reason")
    for outcome in OUTCOMES:
        parallel, orthogonal, both = (estimates[outcome, method] for method in ("parallel", "orthogonal", "both"))
        assert both.estimate == pytest.approx((parallel.estimate - orthogonal.estimate) / 2)
        assert (both.verdict, both.direction) == (SELECTIVE, "harm first")
        assert both.reason.startswith(f"D = {both.estimate:+.2f} [{both.low:+.2f}, {both.high:+.2f}]")
        for row in (parallel, orthogonal):
            assert {getattr(row, name) for name in decided} == {None}
        assert (f"{outcome}: selective, harm first" in verdict.reason) is OUTCOMES[outcome].votes
        assert {both.votes, parallel.votes} == {OUTCOMES[outcome].votes}


def test_an_edit_that_takes_harm_away_first_is_selective():
    verdict, estimates = tables("safelora", {"edit": lambda u: u**5})
    assert (verdict.verdict, verdict.direction) == (SELECTIVE, "harm first")
    for outcome in OUTCOMES:
        s, d = (estimates[outcome, method].estimate for method in ("edit", "both"))
        assert d == -s > 0.15


def test_a_constant_outcome_is_no_verdict():
    verdict, estimates = tables("alignment", HARM_FIRST, flat=("useful_probability", "useful_nll", "correct"))
    assert verdict.verdict == NOT_MEASURABLE
    assert "answer probability: the outcome on useful prompts is the same before and after" in verdict.reason
    assert set(estimates) == {(outcome, "both") for outcome in OUTCOMES}
    for row in estimates.values():
        assert row.verdict == NOT_MEASURABLE
        assert "useful prompts is the same before and after" in row.reason


def test_an_outcome_that_cannot_be_measured_leaves_the_others_theirs():
    verdict, estimates = tables("alignment", HARM_FIRST, flat=("attack",))
    assert verdict.verdict == SELECTIVE
    assert "exact match" not in verdict.reason
    by_outcome = {outcome: row.verdict for (outcome, method), row in estimates.items() if method == "both"}
    assert by_outcome == dict.fromkeys(OUTCOMES, SELECTIVE) | {"exact match and ASR": NOT_MEASURABLE}
    unmeasured = estimates["exact match and ASR", "both"]
    figures = [name for name, kind in schema_of(EstimateRow).items() if kind == pl.Float64]
    assert "estimate" in figures
    assert all(np.isnan(getattr(unmeasured, name)) for name in figures)
    assert (unmeasured.prompts_needed, unmeasured.controls_needed) == (None, None)


def test_verdicts_and_estimates_fit_their_tables():
    verdict, estimates = tables("alignment", HARM_FIRST, flat=("attack",))
    written = frame_of(VerdictRow, [verdict]), frame_of(EstimateRow, list(estimates.values()))
    assert [len(table) for table in written] == [1, 4 * 3 + 1]


def test_several_hypotheses_have_a_row_each_whatever_their_order():
    trials = {name: trial(name, harm) for name, harm in {"alignment": HARM_FIRST, "random-k": TOGETHER}.items()}
    points = [point for own, _ in trials.values() for point in own]
    answers = {name: answer for _, own in trials.values() for name, answer in own.items()}

    def both(names):
        verdicts, estimates = verdict_tables(SETTINGS, [put_to_test(name, points, answers) for name in names])
        return {repr(row) for row in verdicts}, {repr(row) for row in estimates}

    assert both(["alignment", "random-k"]) == both(["random-k", "alignment"])
    assert [len(rows) for rows in both(["alignment", "random-k"])] == [2, 2 * 15]
