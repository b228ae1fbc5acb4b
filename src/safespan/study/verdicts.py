"""Verdicts on every claim in every test, and the estimates behind them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from safespan.results.claim_tables import EstimateRow, VerdictRow
from safespan.settings import VerdictConfig
from safespan.settings.names import Test
from safespan.statistics.ablation import ABLATION
from safespan.statistics.bootstrap import Estimate
from safespan.statistics.protection import TRAINING
from safespan.statistics.selectivity import SEPARATION
from safespan.statistics.verdicts import DIRECTIONS, NOT_MEASURABLE, Verdict, combine_verdicts, holm, judge
from safespan.study.evidence import OUTCOMES, Evidence, outcomes_of

_DECIDES = {"update": SEPARATION, "ablation": ABLATION, "training": TRAINING}
"""Test -> the statistic that decides."""


@dataclass(frozen=True)
class ClaimInTest:
    """A hypothesis in one test.

    Attributes:
        hypothesis: its name.
        kind: of the hypothesis.
        test: the test.
        untested: the verdict on it if it was not put to the test, with its reason; else None.
        evidence: gives what there is under an outcome.
        remark: how the claim departs from its paper on this model; may be empty.
    """

    hypothesis: str
    kind: str
    test: Test
    untested: Verdict | None
    evidence: Callable[[str], Evidence]
    remark: str = ""


def verdict_tables(
    settings: VerdictConfig, claims: Sequence[ClaimInTest]
) -> tuple[list[VerdictRow], list[EstimateRow]]:
    """Rows of the tables `verdicts` and `estimates`, in the order of what was tested."""
    evidence = {
        (one.hypothesis, one.test, outcome): one.evidence(outcome)
        for one in claims
        if one.untested is None
        for outcome in outcomes_of(one.test)
    }
    adjusted = holm({key: estimated for key, (_, estimated) in evidence.items() if estimated})
    verdicts: list[VerdictRow] = []
    rows: list[EstimateRow] = []
    for one in claims:
        combined = one.untested
        if combined is None:
            voting: dict[str, Verdict] = {}
            reasons: dict[str, str] = {}
            for name, outcome in outcomes_of(one.test).items():
                key = (one.hypothesis, one.test, name)
                reason, _ = evidence[key]
                verdict = Verdict(NOT_MEASURABLE, reason)
                if not reason:
                    tests = sum(len(others) for other, others in adjusted.items() if other[1:] == key[1:])
                    verdict = judge(adjusted[key], settings, settings.prompts, tests)
                if outcome.votes and reason:
                    reasons[name] = reason
                elif outcome.votes:
                    voting[name] = verdict
                nothing = [Estimate(_DECIDES[one.test], "", *[float("nan")] * 10)]
                rows += [_estimate_row(*key, estimate, verdict) for estimate in adjusted.get(key, nothing)]
            told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
            combined = combine_verdicts(voting) if voting else Verdict(NOT_MEASURABLE, told)
        combined = replace(combined, reason="; ".join(filter(None, (combined.reason, one.remark))))
        verdicts.append(VerdictRow(one.hypothesis, one.kind, one.test, **asdict(combined)))
    return verdicts, rows


def _estimate_row(hypothesis: str, test: str, outcome: str, estimate: Estimate, verdict: Verdict) -> EstimateRow:
    """The statistic that decides has the verdict in its row."""
    decides = estimate.statistic in DIRECTIONS
    decided: Mapping[str, Any] = asdict(verdict) if decides else dict.fromkeys(vars(verdict))
    figures = {name: value for name, value in vars(estimate).items() if name not in ("method", "value", "statistic")}
    method = "both" if estimate.statistic == SEPARATION else estimate.method or None
    return EstimateRow(
        hypothesis=hypothesis,
        test=test,
        construct=OUTCOMES[outcome].construct,
        outcome=outcome,
        votes=OUTCOMES[outcome].votes,
        method=method,
        statistic=estimate.statistic,
        estimate=estimate.value,
        **figures,
        **decided,
    )
