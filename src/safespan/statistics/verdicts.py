"""Verdicts from estimates: selective, not selective, inconclusive, or depending on the measure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, isfinite

import scipy  # loads scipy.stats, a slow import, on first use

from safespan.settings.verdict import SelectivityConfig
from safespan.statistics.ablation import ABLATION
from safespan.statistics.bootstrap import Estimate
from safespan.statistics.protection import TRAINING
from safespan.statistics.selectivity import SEPARATION

SELECTIVE, NOT_SELECTIVE, INCONCLUSIVE = "selective", "not selective", "inconclusive"
DEPENDS, NOT_MEASURABLE, TOO_SMALL = "depends on the measure", "not measurable", "too small to test"
VERDICTS = (SELECTIVE, NOT_SELECTIVE, INCONCLUSIVE, DEPENDS, NOT_MEASURABLE, TOO_SMALL)
"""The verdicts."""

DIRECTIONS = {
    SEPARATION: ("harm first", "utility first"),
    ABLATION: ("harm first", "utility first"),
    TRAINING: ("protects", "exposes"),
}
"""The statistic that decides -> the direction of a selective verdict where it is above 0, and below."""

MOST = 100_000
"""Largest number of prompts that is considered affordable."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on one hypothesis, under one outcome or under all.

    Attributes:
        verdict: one of the six.
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


Key = tuple[str, str, str]
"""(hypothesis, test, outcome)."""


def holm(raw: Mapping[Key, Sequence[Estimate]]) -> dict[Key, list[Estimate]]:
    """The same estimates with both p-values adjusted over hypotheses and methods, in each test and outcome apart."""
    from statsmodels.stats.multitest import multipletests  # a slow import

    adjusted: dict[Key, list[Estimate]] = {key: list(estimates) for key, estimates in raw.items()}
    for family in {key[1:] for key in raw}:
        places = [(key, i) for key in raw if key[1:] == family for i in range(len(raw[key]))]
        beyond, within = (
            multipletests([getattr(raw[key][i], name) for key, i in places], method="holm")[1]
            for name in ("p_beyond", "p_within")
        )
        for (key, i), p, q in zip(places, beyond, within, strict=True):
            adjusted[key][i] = replace(adjusted[key][i], p_beyond=float(p), p_within=float(q))
    return adjusted


def judge(estimates: Sequence[Estimate], config: SelectivityConfig, prompts: int, tests: int = 1) -> Verdict:
    """The verdict under one outcome, from the statistic that decides; of an update also the signs of both methods.

    Args:
        estimates: of one hypothesis, p-values adjusted; the last one decides.
        config: margin, level and number of controls.
        prompts: number of prompts of each kind.
        tests: number of tests that the p-values were adjusted for.
    """
    *methods, deciding = estimates
    level, margin = (1 - config.confidence) / 2, config.margin
    name, value = deciding.statistic, deciding.value
    shown, low, high = (f"{round(number, 2) + 0.0:+.2f}" for number in (value, deciding.low, deciding.high))
    interval = f"{name} = {shown} [{low}, {high}], margin {margin:g}"
    opposed = len(methods) != 2 or methods[0].value * methods[1].value < 0
    direction = DIRECTIONS[name][0 if value > 0 else 1]
    if deciding.p_beyond < level and opposed:
        return Verdict(SELECTIVE, interval, direction)
    if deciding.p_within < level:
        return Verdict(NOT_SELECTIVE, interval)
    if deciding.p_beyond < level:
        return Verdict(INCONCLUSIVE, f"parallel and orthogonal move the same way, as no subspace can ({interval})")
    return _undecided(deciding, config, prompts, tests, interval)


def ceiling_reason(estimates: Sequence[Estimate], config: SelectivityConfig) -> str:
    """Why no hypothesis could be selective with harm first against these controls; else empty.

    This is so where random controls already remove harm first.
    """
    areas = {estimate.method: estimate.control_area for estimate in estimates if estimate.method}
    room = areas["edit"] if "edit" in areas else (1 - areas["parallel"] + areas["orthogonal"]) / 2
    return f"the controls leave no room for an effect: D is {room:.2f} at most" if room <= config.margin else ""


def _undecided(deciding: Estimate, config: SelectivityConfig, prompts: int, tests: int, interval: str) -> Verdict:
    """Inconclusive, with the numbers of prompts and controls that would bring the interval to one side of the margin.

    Both are multiplied by the same factor. Standard errors fall with its root; the level is Bonferroni's.
    """
    distance = abs(abs(deciding.value) - config.margin)
    deviation = (deciding.sd_prompts**2 + deciding.sd_controls**2) ** 0.5
    width = scipy.stats.norm.isf((1 - config.confidence) / 2 / tests) * deviation
    factor = max((width / distance) ** 2, 1.1) if distance else float("inf")
    if not isfinite(factor) or factor * prompts > MOST:
        return Verdict(INCONCLUSIVE, f"{interval}: too near the margin for any affordable number of prompts")
    needed = ceil(factor * prompts), ceil(factor * config.controls)
    reason = f"{interval}: about {needed[0]} prompts of each kind and {needed[1]} controls would decide"
    return Verdict(INCONCLUSIVE, reason, "", *needed)


def combine_verdicts(verdicts: Mapping[str, Verdict]) -> Verdict:
    """The verdict over several outcomes: the one that all conclusive outcomes share, else that they disagree.

    Args:
        verdicts: outcome -> verdict, without outcomes that cannot be measured; at least one.
    """
    named = {outcome: ", ".join(filter(None, (v.verdict, v.direction))) for outcome, v in verdicts.items()}
    listed = "; ".join(f"{outcome}: {words}" for outcome, words in named.items())
    conclusive = {words for outcome, words in named.items() if verdicts[outcome].verdict != INCONCLUSIVE}
    if len(conclusive) > 1:
        return Verdict(DEPENDS, listed)
    undecided = [verdict for verdict in verdicts.values() if verdict.verdict == INCONCLUSIVE]
    if undecided:
        prompts, controls = (
            max(getattr(verdict, name) or 0 for verdict in undecided) or None
            for name in ("prompts_needed", "controls_needed")
        )
        return Verdict(INCONCLUSIVE, listed, "", prompts, controls)
    first = next(iter(verdicts.values()))
    return Verdict(first.verdict, listed, first.direction)
