"""From what was measured in each test to effects, or to the reason why there are none."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from safespan.results.claim_tables import AblationPoint, UpdatePoint
from safespan.settings import VerdictConfig
from safespan.settings.names import Test
from safespan.statistics.ablation import Curve, ablation_effect, capability_lost, is_measured
from safespan.statistics.effects import Effect
from safespan.statistics.frontier import MOST_LOST
from safespan.statistics.protection import Course, protection_effects
from safespan.statistics.selectivity import Ends, Frontier, selectivity_effects, undefined_reason
from safespan.statistics.verdicts import HARM, REFUSAL, ceiling_reason

if TYPE_CHECKING:
    from safespan.evaluation import Measured


@dataclass(frozen=True)
class Outcome:
    """What u and h are measured by.

    Attributes:
        construct: `harm` or `refusal`.
        useful: measure of utility.
        harmful: measure of harm in the update test.
        level: measure of harm as a probability, in the tests that have no fine-tune; empty: not in these.
        votes: whether it is the construct's primary measure.
    """

    construct: str
    useful: str
    harmful: str
    level: str
    votes: bool


OUTCOMES = {
    "answer probability": Outcome(HARM, "useful_probability", "harmful_probability", "harmful_probability", True),
    "refusal log-odds": Outcome(REFUSAL, "useful_probability", "log_odds", "compliance", True),
    "refusal rate": Outcome(REFUSAL, "correct", "not_refused", "not_refused", False),
    "answer NLL": Outcome(HARM, "useful_nll", "harmful_nll", "", False),
    "exact match and ASR": Outcome(HARM, "correct", "attack", "attack", False),
}
"""The outcomes by name."""


def outcomes_of(test: Test) -> dict[str, Outcome]:
    """The outcomes of one test: in tests without a fine-tune, those that are probabilities."""
    return {name: outcome for name, outcome in OUTCOMES.items() if test == "update" or outcome.level}


@dataclass(frozen=True)
class Evidence:
    """What there is of one hypothesis in one test under one outcome.

    Attributes:
        reason: why there is no verdict; empty if there is one.
        effects: the last one decides; may be there beside a reason.
        note: how the measurement departs from the usual one.
    """

    reason: str = ""
    effects: Sequence[Effect] = ()
    note: str = ""


NOT_MEASURED = Evidence("it was not measured")

_FALLS = ("useful_nll", "harmful_nll")
"""Measures that a fine-tune lowers."""

_RIGHT = ("useful_nll", "general_nll")
"""Measures whose mean is ℓ of the ablation test; the general task may be absent."""

_MOST_UNMEASURED = 1 / 3
"""Share of the controls that may lack a curve."""


def update_evidence(
    settings: VerdictConfig, points: Sequence[UpdatePoint], measured: "Mapping[str, Measured]", outcome: str, seed: int
) -> Evidence:
    """Of one hypothesis; `measured` by the names of points and the roles of models."""
    ends = _ends(points, measured, OUTCOMES[outcome])
    if reason := undefined_reason(ends):
        return Evidence(reason)
    effects = selectivity_effects(_frontiers(points, measured, OUTCOMES[outcome]), ends, settings.resamples, seed)
    return Evidence(ceiling_reason(effects, settings.margin), effects)


def ablation_evidence(
    settings: VerdictConfig,
    points: Sequence[AblationPoint],
    measured: "Mapping[str, Measured]",
    weights: Mapping[str, str],
    outcome: str,
    seed: int,
) -> Evidence:
    """Of one hypothesis; `weights` has the hash of the weights of every point."""
    level = OUTCOMES[outcome].level
    if level not in measured["aligned"].per_prompt:
        return NOT_MEASURED
    aligned = curve_of([measured["aligned"]], level)
    known = {}
    for (_, draw), own in curves(points).items():
        curve = curve_of([measured[point.name] for point in own], level)
        if is_measured(curve, aligned, [weights[point.name] for point in own]):
            known[draw] = curve
    draws = len({point.draw for point in points} - {None})
    if None not in known:
        return Evidence("the model loses half of its capability at every strength")
    controls = [curve for draw, curve in known.items() if draw is not None]
    if draws - len(controls) > _MOST_UNMEASURED * draws or len(controls) < 2:
        return Evidence(f"{draws - len(controls)} of {draws} controls lose half of the capability at every strength")
    return Evidence(effects=[ablation_effect(known[None], controls, aligned, settings.resamples, seed)])


def curves(points: Iterable[AblationPoint]) -> dict[tuple[str, int | None], list[AblationPoint]]:
    """(hypothesis, draw) -> its points."""
    by_curve = defaultdict(list)
    for point in points:
        by_curve[point.hypothesis, point.draw].append(point)
    return dict(by_curve)


def curve_of(measured: "Sequence[Measured]", harmful: str) -> Curve:
    """Per-prompt outcomes of several sets of weights; `harmful` names the measure of harm."""
    right = [name for name in _RIGHT if name in measured[0].per_prompt]
    parts = tuple(np.array([one.per_prompt[name] for one in measured]) for name in right)
    return Curve(np.array([one.per_prompt[harmful] for one in measured]), parts)


def base_evidence(settings: VerdictConfig, measured: "Mapping[str, Measured]", outcome: str, seed: int) -> Evidence:
    """Of the positive control of the ablation test: the base model in place of the aligned one, without controls."""
    level = OUTCOMES[outcome].level
    if level not in measured["aligned"].per_prompt:
        return NOT_MEASURED
    aligned, base = (curve_of([measured[role]], level) for role in ("aligned", "base"))
    [lost] = capability_lost(base, aligned).tolist()
    if lost >= MOST_LOST:
        return Evidence(f"the base model lacks {lost:.0%} of the aligned model's capability")
    return Evidence(effects=[ablation_effect(base, [], aligned, settings.resamples, seed)])


def training_evidence(
    settings: VerdictConfig,
    own: "Sequence[Measured]",
    controls: "Sequence[Sequence[Measured]]",
    outcome: str,
    seed: int,
) -> Evidence:
    """Of one hypothesis, or of the training without harmful rows; each training from the aligned model to its end."""
    chosen = OUTCOMES[outcome]
    if chosen.level not in own[0].per_prompt:
        return NOT_MEASURED

    def course(moments: "Sequence[Measured]") -> Course:
        useful, harmful = (
            np.array([moment.per_prompt[name] for moment in moments], float) for name in (chosen.useful, chosen.level)
        )
        return Course(useful, harmful)

    beside = [course(control) for control in controls]
    effects, note = protection_effects(course(own), beside, settings.level, settings.resamples, seed)
    return Evidence(effects=effects, note=note)


def _ends(points: Sequence[UpdatePoint], measured: "Mapping[str, Measured]", outcome: Outcome) -> Ends:
    first, last = points[0].finetune, points[-1].finetune
    return Ends(
        _values(measured["aligned"], outcome.useful),
        _values(measured["aligned"], outcome.harmful),
        _values(measured[first], outcome.useful),
        _values(measured[last], outcome.harmful),
    )


def _frontiers(
    points: Sequence[UpdatePoint], measured: "Mapping[str, Measured]", outcome: Outcome
) -> dict[str, Frontier]:
    """Method -> outcomes, points in order from the aligned model to the fine-tune."""
    frontiers = {}
    for method in dict.fromkeys(point.method for point in points):
        own = [point for point in points if point.method == method]
        frontiers[method] = Frontier(
            _along(own, measured, own[0].finetune, outcome.useful, None),
            _along(own, measured, own[-1].finetune, outcome.harmful, None),
            _over_draws(own, measured, own[0].finetune, outcome.useful),
            _over_draws(own, measured, own[-1].finetune, outcome.harmful),
        )
    return frontiers


def _over_draws(
    points: Sequence[UpdatePoint], measured: "Mapping[str, Measured]", finetune: str, measure: str
) -> np.ndarray:
    """[R, F, N] of the random controls."""
    draws = sorted({point.draw for point in points if point.draw is not None})
    return np.stack([_along(points, measured, finetune, measure, draw) for draw in draws])


def _along(
    points: Sequence[UpdatePoint], measured: "Mapping[str, Measured]", finetune: str, measure: str, draw: int | None
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
