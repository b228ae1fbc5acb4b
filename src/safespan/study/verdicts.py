"""From what was measured of every point to verdicts and the estimates behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from safespan.progress import track
from safespan.results.tables import EstimateRow, TrialPoint, VerdictRow
from safespan.settings import VerdictConfig
from safespan.statistics.selectivity import (
    SEPARATION,
    Ends,
    Estimate,
    Frontier,
    estimates,
    undefined_reason,
)
from safespan.statistics.verdicts import NOT_MEASURABLE, Verdict, ceiling_reason, combine_verdicts, holm, judge
from safespan.subspaces import Hypothesis

if TYPE_CHECKING:
    from safespan.evaluation import Measured

OUTCOMES = {
    "answer NLL": ("useful_nll", "harmful_nll"),
    "first-token log-odds": ("useful_nll", "log_odds"),
    "exact match and ASR": ("correct", "attack"),
}
"""Outcome -> what u and h are measured by."""

UPDATE_TEST = "update"
"""The test of a finished fine-tune, projected or edited (METHODS §7)."""

_FALLS = ("useful_nll", "harmful_nll")
"""Measures that a fine-tune lowers."""


def verdict_tables(
    settings: VerdictConfig,
    hypotheses: Sequence[Hypothesis],
    points: Sequence[TrialPoint],
    measured: "Mapping[str, Measured]",
    seed: int,
) -> tuple[list[VerdictRow], list[EstimateRow]]:
    """Rows of the tables `verdicts` and `estimates`.

    Args:
        settings: of the test.
        hypotheses: in the order of the rows.
        points: of all hypotheses and their controls.
        measured: name of a point, or role of a model, -> what was measured.
        seed: of the bootstrap.
    """
    reasons: dict[tuple[str, str], str] = {}
    raw: dict[tuple[str, str], list[Estimate]] = {}
    for hypothesis in track("hypotheses", hypotheses, len(hypotheses)):
        own = [point for point in points if point.hypothesis == hypothesis.name]
        for outcome in OUTCOMES:
            key, ends = (hypothesis.name, outcome), _ends(own, measured, outcome)
            reasons[key] = undefined_reason(ends)
            if not reasons[key]:
                raw[key] = estimates(_frontiers(own, measured, outcome), ends, settings, seed)
                reasons[key] = ceiling_reason(raw[key], settings)
    adjusted = holm(raw)
    verdicts: list[VerdictRow] = []
    rows: list[EstimateRow] = []
    for hypothesis in hypotheses:
        by_outcome: dict[str, Verdict] = {}
        for outcome in OUTCOMES:
            key = (hypothesis.name, outcome)
            tests = sum(len(estimated) for (_, other), estimated in adjusted.items() if other == outcome)
            if reasons[key]:
                verdict = Verdict(NOT_MEASURABLE, reasons[key])
            else:
                verdict = by_outcome[outcome] = judge(adjusted[key], settings, settings.prompts, tests)
            estimated = adjusted.get(key) or [Estimate(SEPARATION, *[float("nan")] * 10)]
            rows += [_estimate_row(*key, estimate, verdict) for estimate in estimated]
        combined = combine_verdicts(by_outcome)
        verdicts.append(VerdictRow(hypothesis.name, hypothesis.kind, **asdict(combined)))
    return verdicts, rows


def _estimate_row(hypothesis: str, outcome: str, estimate: Estimate, verdict: Verdict) -> EstimateRow:
    """D decides: its row has the verdict."""
    decides = estimate.method == SEPARATION
    figures = {name: value for name, value in vars(estimate).items() if name not in ("method", "s")}
    decided = asdict(verdict) if decides else dict.fromkeys(vars(verdict))
    return EstimateRow(
        hypothesis=hypothesis,
        test=UPDATE_TEST,
        outcome=outcome,
        method="both" if decides else estimate.method,
        statistic="D" if decides else "S",
        estimate=estimate.s,
        **figures,
        **decided,
    )


def _ends(points: Sequence[TrialPoint], measured: "Mapping[str, Measured]", outcome: str) -> Ends:
    first, last = points[0].finetune, points[-1].finetune
    useful, harmful = OUTCOMES[outcome]
    return Ends(
        _values(measured["aligned"], useful),
        _values(measured["aligned"], harmful),
        _values(measured[first], useful),
        _values(measured[last], harmful),
    )


def _frontiers(points: Sequence[TrialPoint], measured: "Mapping[str, Measured]", outcome: str) -> dict[str, Frontier]:
    """Method -> outcomes, points in order from the aligned model to the fine-tune."""
    useful, harmful = OUTCOMES[outcome]
    frontiers = {}
    for method in dict.fromkeys(point.method for point in points):
        own = [point for point in points if point.method == method]
        frontiers[method] = Frontier(
            _along(own, measured, own[0].finetune, useful, None),
            _along(own, measured, own[-1].finetune, harmful, None),
            _over_draws(own, measured, own[0].finetune, useful),
            _over_draws(own, measured, own[-1].finetune, harmful),
        )
    return frontiers


def _over_draws(
    points: Sequence[TrialPoint], measured: "Mapping[str, Measured]", finetune: str, measure: str
) -> np.ndarray:
    """[R, F, N] of the random controls."""
    draws = sorted({point.draw for point in points if point.draw is not None})
    return np.stack([_along(points, measured, finetune, measure, draw) for draw in draws])


def _along(
    points: Sequence[TrialPoint], measured: "Mapping[str, Measured]", finetune: str, measure: str, draw: int | None
) -> np.ndarray:
    """[F, N] of one draw, or of the hypothesis itself, of one method."""
    # Parallel keeps more as the fraction grows; whatever takes out or edits keeps less.
    chosen = sorted(
        (point for point in points if (point.finetune, point.draw) == (finetune, draw)),
        key=lambda point: point.fraction,
        reverse=points[0].method != "parallel",
    )
    return np.stack([_values(measured[point.name], measure) for point in chosen])


def _values(measured: "Measured", measure: str) -> np.ndarray:
    """One number a prompt, rising with the fine-tune; none where it was not measured."""
    values = np.array(measured.per_prompt.get(measure, []), float)
    return -values if measure in _FALLS else values
