"""From what was measured of every point to the rows of a verdict."""

from itertools import product

import numpy as np
import polars as pl
import pytest

from safespan.errors import DataError
from safespan.evaluation import Measured
from safespan.projection import update_points
from safespan.results import frame_of, schema_of
from safespan.results.claim_tables import EstimateRow, VerdictRow
from safespan.settings.verdict import Look, VerdictConfig
from safespan.statistics.effects import Effect
from safespan.statistics.verdicts import CLAIM, NOT_MEASURABLE, NOT_SELECTIVE, POSITIVE, SELECTIVE, TOO_SMALL, Verdict
from safespan.study.evidence import OUTCOMES, Evidence, base_evidence, training_evidence, update_evidence
from safespan.study.verdicts import ClaimInTest, group_of, judged_by_looks
from safespan.subspaces import find_hypothesis

SETTINGS = VerdictConfig(fractions=(0.1, 0.3, 0.5, 0.7, 0.9), prompts=40, resamples=400)


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
    return Measured(per_prompt | {name: [3.0] * 40 for name in flat})


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
    """The verdicts on one hypothesis by construct, and its estimates by outcome and method."""
    verdicts, estimates = rows_of({name: trial(name, *given, **options)})
    assert {verdict.hypothesis for verdict in verdicts} == {name}
    assert [verdict.construct for verdict in verdicts] == ["harm", "refusal"]
    assert {(row.hypothesis, row.test) for row in estimates} == {(name, "update")}
    by_place = {(row.outcome, row.method): row for row in estimates}
    assert len(by_place) == len(estimates)
    return {verdict.construct: verdict for verdict in verdicts}, by_place


def rows_of(trials):
    """Verdicts and estimates of hypotheses in the update test, from (points, answers) of each, at one look."""

    def evidence(name, outcome):
        return update_evidence(SETTINGS, *trials[name], outcome, 0)

    claims = [ClaimInTest(name, find_hypothesis(name).kind, group_of(name, "update")) for name in trials]
    once = [Look(SETTINGS.controls, SETTINGS.prompts)]
    judgement = judged_by_looks(SETTINGS, "update", claims, once, lambda names, look: evidence)
    return list(judgement.verdicts()), list(judgement.estimates())


HARM_FIRST = {"parallel": lambda u: u**0.2, "orthogonal": lambda u: u**5}
TOGETHER = {"parallel": lambda u: u, "orthogonal": lambda u: u}


@pytest.mark.parametrize("finetunes", [("contaminated",), ("useful", "harmful")])
def test_a_subspace_that_carries_harm_first_is_selective_and_one_that_does_not_is_not(finetunes):
    verdicts, estimates = tables("alignment", HARM_FIRST, finetunes=finetunes)
    assert {(one.kind, one.group, one.verdict) for one in verdicts.values()} == {("subspace", CLAIM, SELECTIVE)}
    assert {name: one.direction for name, one in verdicts.items()} == {
        "harm": "harm first",
        "refusal": "refusal lost first",
    }
    assert set(estimates) == set(product(OUTCOMES, ("parallel", "orthogonal", None)))
    for (_, method), row in estimates.items():
        assert row.statistic == ("S" if method else "D")
        assert row.low < row.estimate < row.high
        assert row.confidence == pytest.approx(0.9)
        assert row.draws == SETTINGS.controls
    verdicts, _ = tables("alignment", TOGETHER, finetunes=finetunes)
    assert {one.verdict for one in verdicts.values()} == {NOT_SELECTIVE}


def test_the_row_of_d_alone_decides_and_says_why():
    verdicts, estimates = tables("alignment", HARM_FIRST)
    decided = ("verdict", "direction", "prompts_needed", "controls_needed", "reason")
    for outcome in OUTCOMES:
        parallel, orthogonal, both = (estimates[outcome, method] for method in ("parallel", "orthogonal", None))
        assert both.estimate == pytest.approx((parallel.estimate - orthogonal.estimate) / 2)
        assert both.decides
        assert both.verdict == SELECTIVE
        assert both.reason.startswith(f"D = {both.estimate:+.2f} [{both.low:+.2f}, {both.high:+.2f}]")
        for row in (parallel, orthogonal):
            assert not row.decides
            assert {getattr(row, name) for name in decided} == {None}
        construct = OUTCOMES[outcome].construct
        assert (both.reason == verdicts[construct].reason) is OUTCOMES[outcome].votes
        assert {both.votes, parallel.votes} == {OUTCOMES[outcome].votes}


def test_an_edit_that_takes_harm_away_first_is_selective():
    verdicts, estimates = tables("safelora", {"edit": lambda u: u**5})
    assert (verdicts["harm"].verdict, verdicts["harm"].direction) == (SELECTIVE, "harm first")
    for outcome in OUTCOMES:
        s, d = (estimates[outcome, method].estimate for method in ("edit", None))
        assert d == -s > 0.15


def test_a_constant_outcome_is_no_verdict():
    verdicts, estimates = tables("alignment", HARM_FIRST, flat=("useful_probability", "useful_nll", "correct"))
    for verdict in verdicts.values():
        assert verdict.verdict == NOT_MEASURABLE
        assert verdict.reason.startswith("the outcome on useful prompts is the same before and after")
    assert set(estimates) == {(outcome, None) for outcome in OUTCOMES}
    for row in estimates.values():
        assert row.verdict == NOT_MEASURABLE
        assert "useful prompts is the same before and after" in row.reason


def test_a_fine_tune_that_only_loses_refusals_has_a_verdict_on_refusal():
    verdicts, _ = tables("alignment", HARM_FIRST, finetunes=("useful",), flat=("harmful_probability", "harmful_nll"))
    assert (verdicts["harm"].verdict, verdicts["refusal"].verdict) == (NOT_MEASURABLE, SELECTIVE)
    assert "harmful prompts is the same before and after the fine-tune" in verdicts["harm"].reason


def test_an_outcome_that_cannot_be_measured_leaves_the_others_theirs():
    verdicts, estimates = tables("alignment", HARM_FIRST, flat=("attack",))
    assert verdicts["harm"].verdict == SELECTIVE
    by_outcome = {outcome: row.verdict for (outcome, method), row in estimates.items() if method is None}
    assert by_outcome == dict.fromkeys(OUTCOMES, SELECTIVE) | {"exact match and ASR": NOT_MEASURABLE}
    unmeasured = estimates["exact match and ASR", None]
    figures = [name for name, kind in schema_of(EstimateRow).items() if kind == pl.Float64]
    assert "estimate" in figures
    assert all(np.isnan(getattr(unmeasured, name)) for name in figures)
    assert (unmeasured.prompts_needed, unmeasured.controls_needed, unmeasured.draws) == (None, None, None)


def test_verdicts_and_estimates_fit_their_tables():
    verdicts, estimates = tables("alignment", HARM_FIRST, flat=("attack",))
    written = frame_of(VerdictRow, list(verdicts.values())), frame_of(EstimateRow, list(estimates.values()))
    assert [len(table) for table in written] == [2, 4 * 3 + 1]


def test_several_hypotheses_have_rows_each_whatever_their_order():
    trials = {name: trial(name, harm) for name, harm in {"alignment": HARM_FIRST, "random-k": TOGETHER}.items()}

    def both(names):
        return [{repr(row) for row in rows} for rows in rows_of({name: trials[name] for name in names})]

    assert both(["alignment", "random-k"]) == both(["random-k", "alignment"])
    assert [len(rows) for rows in both(["alignment", "random-k"])] == [4, 2 * 15]


def test_controls_of_the_test_stand_outside_the_correction_and_effects_are_relative_to_the_positive_one():
    harm = {"alignment": HARM_FIRST, "harmful-update": HARM_FIRST, "random": TOGETHER}
    verdicts, estimates = rows_of({name: trial(name, given) for name, given in harm.items()})
    groups = {row.hypothesis: (row.group, row.verdict) for row in verdicts if row.construct == "harm"}
    assert groups == {
        "alignment": (CLAIM, SELECTIVE),
        "harmful-update": (POSITIVE, SELECTIVE),
        "random": ("random", NOT_SELECTIVE),
    }
    deciding = {row.hypothesis: row for row in estimates if row.outcome == "answer probability" and row.decides}
    confidence = [row.confidence for row in deciding.values()]
    assert confidence == pytest.approx([1 - 2 * 0.05] * 3)  # one claim, whatever stands beside
    claim, positive = deciding["alignment"], deciding["harmful-update"]
    assert claim.relative == pytest.approx(claim.estimate / positive.estimate)
    assert claim.relative_low < claim.relative < claim.relative_high
    assert np.isnan(positive.relative)


def test_a_claim_that_was_not_put_to_the_test_has_its_reason_for_both_constructs():
    untested = ClaimInTest("alignment", "subspace", CLAIM, Verdict(TOO_SMALL, "it is"), "a remark")
    judgement = judged_by_looks(SETTINGS, "update", [untested], [Look(2, 2)], lambda names, look: pytest.fail("asked"))
    verdicts, estimates = list(judgement.verdicts()), list(judgement.estimates())
    assert [(row.construct, row.verdict, row.reason) for row in verdicts] == [
        ("harm", TOO_SMALL, "it is; a remark"),
        ("refusal", TOO_SMALL, "it is; a remark"),
    ]
    assert estimates == []


def test_a_remark_stands_beside_the_verdict_and_is_not_repeated_beside_every_estimate():
    trial_of = trial("alignment", {"parallel": lambda u: u, "orthogonal": lambda u: u})
    claim = ClaimInTest("alignment", "subspace", CLAIM, remark="a remark")

    def evidence(name, outcome):
        return update_evidence(SETTINGS, *trial_of, outcome, 0)

    looks = [Look(SETTINGS.controls, SETTINGS.prompts)]
    judgement = judged_by_looks(SETTINGS, "update", [claim], looks, lambda names, look: evidence)
    assert all(row.reason.endswith("; a remark") for row in judgement.verdicts())
    assert not [row for row in judgement.estimates() if "remark" in str(row.reason)]


def test_the_base_model_is_the_positive_control_of_the_ablation():
    def model(harm, nll):
        rng = np.random.default_rng(0)
        noise = 0.01 * rng.standard_normal(40)
        return Measured({"useful_nll": [nll] * 40, "harmful_probability": (harm + noise).tolist()})

    measured = {"aligned": model(0.1, 1.0), "base": model(0.9, 1.2)}
    evidence = base_evidence(SETTINGS, measured, "answer probability", 0)
    assert evidence.effects[-1].value == pytest.approx(0.89 * (1 - (1 - np.exp(-0.2))), abs=0.02)
    lost = base_evidence(SETTINGS, {**measured, "base": model(0.9, 3.0)}, "answer probability", 0)
    assert "lacks 86% of the aligned model's capability" in lost.reason
    assert base_evidence(SETTINGS, measured, "refusal rate", 0).reason == "it was not measured"


def test_a_training_is_judged_by_all_its_moments():
    def moment(harm, utility):
        return Measured({"useful_probability": [utility] * 10, "harmful_probability": [harm] * 10})

    aligned = moment(0.0, 0.1)
    controls = [[aligned, moment(0.5, 0.8), moment(end, 0.9)] for end in (0.9, 0.95, 1.0)]
    evidence = training_evidence(
        SETTINGS, [aligned, moment(0.1, 0.7), moment(0.2, 0.9)], controls, "answer probability", 0
    )
    steps, end = evidence.effects
    assert end.value == pytest.approx(0.95 - 0.2)
    assert steps.value == pytest.approx((0.5 + 0.95) / 2 - 0.15)
    slow = training_evidence(SETTINGS, [aligned, moment(0.1, 0.2), moment(0.2, 0.5)], controls, "answer probability", 0)
    assert slow.effects[-1].value == pytest.approx(0.5 - 0.2)  # at the first moment with a utility of 0.5
    assert "first reaches a utility of 0.50" in slow.note


LOOKS = [Look(5, 40), Look(8, 70), Look(12, 100)]


def looked_at(verdicts_at):
    """The judgement of claims whose effects at each look are given by (name, look): value and standard error."""
    asked = []

    def evidence_at(names, look):
        asked.append((list(names), look))
        at = verdicts_at[LOOKS.index(look)]

        def evidence(name, outcome):
            value, error = at[name]
            drawn = np.random.default_rng(0).standard_normal(200)
            drawn = value + error * (drawn - drawn.mean()) / drawn.std(ddof=1)
            beside = [Effect("S", method, 0.0, np.zeros(8), drawn, 1000) for method in ("edit",)]
            deciding = Effect("D", "", value, 1e-4 * np.arange(8) - 3.5e-4, drawn, 1000)
            return Evidence(effects=[*beside, deciding])

        return evidence

    names = list(verdicts_at[0])
    claims = [ClaimInTest(name, "layers", group_of(name, "update")) for name in names]
    return judged_by_looks(SETTINGS, "update", claims, LOOKS, evidence_at), asked


FIRST = {
    "clear": (0.5, 0.02),
    "none": (0.0, 0.01),
    "late": (0.3, 0.1),
    "never": (0.15, 0.05),  # on the margin: the last look will hardly decide it
    "random": (0.0, 0.01),
}


def test_a_claim_that_is_decided_or_will_not_be_is_asked_no_more_and_its_verdict_stands():
    judgement, asked = looked_at([FIRST, {"late": (0.3, 0.03)}, {}])
    assert [names for names, _ in asked] == [list(FIRST), ["late"]]
    verdicts = {row.hypothesis: row.verdict for row in judgement.verdicts() if row.construct == "harm"}
    assert verdicts == {
        "clear": SELECTIVE,
        "none": NOT_SELECTIVE,
        "late": SELECTIVE,
        "never": "inconclusive",
        "random": NOT_SELECTIVE,
    }


def test_a_claim_that_is_given_up_says_so():
    judgement, _ = looked_at([FIRST, {"late": (0.3, 0.03)}, {}])
    reasons = {row.hypothesis: row.reason for row in judgement.verdicts() if row.construct == "harm"}
    given_up = [name for name, reason in reasons.items() if "no more was asked" in reason]
    assert given_up == ["never"]
    assert reasons["never"].endswith(
        "a decision is out of reach: it would take more than 100 controls; no more was asked, as the most that this "
        "study asks (100 prompts of each kind and 12 controls) would hardly decide it"
    )


def test_the_level_of_a_look_is_its_share_and_claims_decided_before_still_count():
    """Bonferroni over looks, Holm within: the intervals are at α / (3 looks × 4 claims), controls at α / 3."""
    judgement, _ = looked_at([FIRST, {"late": (0.3, 0.03)}, {}])
    deciding = {
        row.hypothesis: row for row in judgement.estimates() if row.outcome == "answer probability" and row.decides
    }
    confidence = {name: row.confidence for name, row in deciding.items()}
    assert confidence.pop("random") == pytest.approx(1 - 2 * 0.05 / 3)
    assert list(confidence.values()) == pytest.approx([1 - 2 * 0.05 / 3 / 4] * 4)
    # At its look one claim had been selective, and two had not: three of four hypotheses were left.
    late = deciding["late"]
    assert late.p_selective == pytest.approx(3 * max(late.p_null, late.p_margin))


def test_what_is_not_known_any_more_ends_the_looks():
    first = {"late": (0.3, 0.1)}
    claims = [ClaimInTest("late", "layers", CLAIM)]

    def evidence_at(names, look):
        return None

    with pytest.raises(DataError, match="run the study again"):
        judged_by_looks(SETTINGS, "update", claims, LOOKS, evidence_at)
    judgement, _ = looked_at([first, first, first])
    assert [row.verdict for row in judgement.verdicts()] == ["inconclusive"] * 2
