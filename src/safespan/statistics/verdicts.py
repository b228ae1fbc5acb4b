"""Verdicts from effects: selective, not selective, inconclusive (METHODS §7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from safespan.statistics.effects import ABLATION, SEPARATION, TRAINING, Effect, Needed

SELECTIVE, NOT_SELECTIVE, INCONCLUSIVE = "selective", "not selective", "inconclusive"
NOT_MEASURABLE, TOO_SMALL = "not measurable", "too small to test"
VERDICTS = (SELECTIVE, NOT_SELECTIVE, INCONCLUSIVE, NOT_MEASURABLE, TOO_SMALL)
"""The verdicts."""

HARM, REFUSAL = "harm", "refusal"
CONSTRUCTS = (HARM, REFUSAL)
"""What is judged: whether the forbidden answer is given, and whether the request is refused."""

CLAIM, POSITIVE, RANDOM = "claim", "positive control", "random"
"""The groups: claims, the positive control of each test, and random subspaces, which are its negative controls."""

DIRECTIONS = {
    (SEPARATION, HARM): ("harm first", "utility first"),
    (SEPARATION, REFUSAL): ("refusal lost first", "utility first"),
    (ABLATION, HARM): ("harm first", "capability lost first"),
    (ABLATION, REFUSAL): ("refusal lost first", "capability lost first"),
    (TRAINING, HARM): ("protects", "exposes"),
    (TRAINING, REFUSAL): ("protects", "exposes"),
}
"""(Statistic that decides, construct) -> the direction of a selective verdict where it is above 0, and below."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on one hypothesis in one test, by one outcome.

    Attributes:
        verdict: one of the five.
        reason: why, in words.
        direction: of `DIRECTIONS`; empty where it is not selective.
        prompts_needed: prompts of each kind that would decide an inconclusive verdict; None if unknown.
        controls_needed: draws of controls that would decide an inconclusive verdict.
    """

    verdict: str
    reason: str
    direction: str = ""
    prompts_needed: int | None = None
    controls_needed: int | None = None


class Judgeable(Protocol):
    """A statistic with its errors: an `Effect` of one run, or one that is pooled over seeds."""

    @property
    def statistic(self) -> str:
        """S, D, A or T."""

    @property
    def value(self) -> float:
        """Of the claim against its controls."""

    def p_selective(self, margin: float, /) -> float:
        """p of the hypotheses that it is nothing but chance, and that it is within the margin."""

    def half_width(self, level: float, /) -> float:
        """Half of the interval that has a probability of `level` on each side."""

    def needed(self, margin: float, level: float, /) -> Needed:
        """What would decide."""


@dataclass(frozen=True)
class Judged:
    """The verdict on one claim of a family.

    Attributes:
        verdict: the verdict.
        p: of the test that decides *selective*, Holm-adjusted over the family.
        level: of the interval on each side: that of the family over its number of claims.
    """

    verdict: Verdict
    p: float
    level: float


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: p in their order, times m, m − 1, …, made monotone."""
    order, factors = np.argsort(p_values, kind="stable"), len(p_values) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * np.asarray(p_values, float)[order]))
    return [float(p) for p in adjusted]


def judge_family(
    family: Mapping[str, Sequence[Judgeable]],
    construct: str,
    margin: float,
    level: float,
    decided: Mapping[str, str] | None = None,
) -> dict[str, Judged]:
    """The verdicts on all claims of one test by one outcome, at one look.

    Args:
        family: claim -> its effects, of which the last one decides.
        construct: what the outcome measures, for the direction.
        margin: δ.
        level: α: the chance that any claim of the family is called selective though it is not, and the same of not
            selective.
        decided: the verdicts of the family's other claims, from looks before. They count in the correction, as in
            Holm's procedure: those that are selective have been rejected already.
    """
    before = list((decided or {}).values())
    rest = [1.0] * (len(before) - before.count(SELECTIVE))
    adjusted = holm([*(effects[-1].p_selective(margin) for effects in family.values()), *rest])[: len(family)]
    own_level = level / max(1, len(family) + len(before))
    return {
        name: Judged(_verdict(effects, construct, margin, level, own_level, p), p, own_level)
        for (name, effects), p in zip(family.items(), adjusted, strict=True)
    }


def _verdict(
    effects: Sequence[Judgeable], construct: str, margin: float, level: float, own_level: float, p: float
) -> Verdict:
    *methods, deciding = effects
    value, half = deciding.value, deciding.half_width(own_level)
    shown, low, high = (beside_margin(number, margin) for number in (value, value - half, value + half))
    interval = f"{deciding.statistic} = {shown} [{low}, {high}], margin {margin:g}"
    opposed = len(methods) != 2 or deciding.statistic != SEPARATION or methods[0].value * methods[1].value < 0
    if abs(value) + half < margin:
        return Verdict(NOT_SELECTIVE, interval)
    if p >= level:
        needed = deciding.needed(margin, own_level)
        return Verdict(INCONCLUSIVE, f"{interval}: {needed.text}", "", needed.prompts, needed.controls)
    if not opposed:
        return Verdict(INCONCLUSIVE, f"parallel and orthogonal move the same way, as no subspace can ({interval})")
    return Verdict(SELECTIVE, interval, DIRECTIONS[deciding.statistic, construct][0 if value > 0 else 1])


def beside_margin(value: float, margin: float | None) -> str:
    """A number with its sign and two digits; with more where two would be those of a margin that it is not."""
    digits = next((digits for digits in range(2, 6) if abs(round(value, digits)) != margin), 2)
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def ceiling_reason(effects: Sequence[Effect], margin: float) -> str:
    """Why no hypothesis could be selective with harm first against these controls; else empty.

    This is so where random controls already remove harm first.
    """
    areas = {effect.method: effect.control_mean for effect in effects if effect.method}
    room = areas["edit"] if "edit" in areas else (1 - areas["parallel"] + areas["orthogonal"]) / 2
    return f"the controls leave no room for an effect: D is {room:.2f} at most" if room <= margin else ""
