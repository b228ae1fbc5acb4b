"""Selectivity S of a hypothesis against its random controls, with intervals over prompts and control draws."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy  # loads scipy.stats, a slow import, on first use
from jaxtyping import Float

from safespan.settings.verdict import SelectivityConfig
from safespan.statistics.bootstrap import Estimate, bootstrapped, resampled_means
from safespan.statistics.frontier import frontier_area, progress

SEPARATION = "D"
"""The statistic of both methods: D = (S_parallel − S_orthogonal) / 2, or −S of an edit. Above 0, harm goes first."""


@dataclass(frozen=True)
class Frontier:
    """Per-prompt outcomes along one method, points in order from the aligned model to the fine-tune.

    Attributes:
        useful: [F, N] of the hypothesis.
        harmful: [F, M] of the hypothesis.
        control_useful: [R, F, N].
        control_harmful: [R, F, M].
    """

    useful: Float[np.ndarray, "f n"]
    harmful: Float[np.ndarray, "f m"]
    control_useful: Float[np.ndarray, "r f n"]
    control_harmful: Float[np.ndarray, "r f m"]


@dataclass(frozen=True)
class Ends:
    """Per-prompt outcomes of the aligned and of the fine-tuned model: [N] useful, [M] harmful."""

    aligned_useful: Float[np.ndarray, " n"]
    aligned_harmful: Float[np.ndarray, " m"]
    finetuned_useful: Float[np.ndarray, " n"]
    finetuned_harmful: Float[np.ndarray, " m"]


def undefined_reason(ends: Ends) -> str:
    """Why u or h is undefined: the fine-tune does not raise an outcome significantly; else empty."""
    pairs = {
        "useful": (ends.aligned_useful, ends.finetuned_useful),
        "harmful": (ends.aligned_harmful, ends.finetuned_harmful),
    }
    for kind, (aligned, finetuned) in pairs.items():
        gain = (finetuned - aligned)[np.isfinite(finetuned - aligned)]
        if len(gain) < 2:
            return f"there are no {kind} outcomes"
        if np.ptp(gain) == 0 and gain[0] <= 0:
            return f"the outcome on {kind} prompts is the same before and after the fine-tune"
        if np.ptp(gain) > 0 and not scipy.stats.ttest_1samp(gain, 0.0, alternative="greater").pvalue < 0.025:
            return f"the fine-tune does not raise the outcome on {kind} prompts beyond its interval"
    return ""


def estimates(frontiers: Mapping[str, Frontier], ends: Ends, config: SelectivityConfig, seed: int) -> list[Estimate]:
    """S under every method, and the separation, from one joint bootstrap.

    Prompts of each kind and draws of controls are resampled independently; both methods share each resample. Outcomes
    rise with the fine-tune: likelihoods are given as log-likelihoods.

    Args:
        frontiers: method -> outcomes.
        ends: of the two models.
        config: intervals and margin.
        seed: of the bootstrap.
    """
    first = next(iter(frontiers.values()))
    sizes = (first.useful.shape[1], first.harmful.shape[1], len(first.control_useful))

    def scores(useful: np.ndarray, harmful: np.ndarray, draws: np.ndarray) -> np.ndarray:
        areas = [_areas(front, ends, useful, harmful) for front in frontiers.values()]
        s = np.stack([area - np.take_along_axis(controls, draws, -1).mean(-1) for area, controls in areas])
        separation = (s[0] - s[1]) / 2 if len(s) == 2 else -s[0]
        return np.concatenate([s, separation[None]])

    areas = [_areas(front, ends, np.arange(sizes[0]), np.arange(sizes[1])) for front in frontiers.values()]
    figures = [*((area, controls.mean(), controls.std(ddof=1)) for area, controls in areas), [np.nan] * 3]
    labels = [*(("S", method) for method in frontiers), (SEPARATION, "")]
    return bootstrapped(scores, sizes, labels, np.array(figures), config, seed)


def _areas(front: Frontier, ends: Ends, useful: np.ndarray, harmful: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas of the hypothesis [...] and its controls [..., R] for prompts [..., N] and [..., M]."""

    def progressed(
        own: np.ndarray, controls: np.ndarray, both: tuple[np.ndarray, np.ndarray], prompts: np.ndarray
    ) -> np.ndarray:
        """[1 + R, ..., F]; all means of one kind of prompts are one product, the costly part of a resample."""
        points = np.concatenate([own[None], controls])
        means = resampled_means(
            np.concatenate([points.reshape(-1, points.shape[-1]), *(end[None] for end in both)]), prompts
        )
        values = np.moveaxis(means[:-2].reshape(*points.shape[:2], *means.shape[1:]), 1, -1)
        return progress(values, means[-2][..., None], means[-1][..., None])

    areas = frontier_area(
        progressed(front.useful, front.control_useful, (ends.aligned_useful, ends.finetuned_useful), useful),
        progressed(front.harmful, front.control_harmful, (ends.aligned_harmful, ends.finetuned_harmful), harmful),
    )
    return areas[0], np.moveaxis(areas[1:], 0, -1)
