"""Selectivity of a hypothesis in the update test: S of each method and D, beside random controls (METHODS §7)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy  # loads scipy.stats, a slow import, on first use
from jaxtyping import Float

from safespan.statistics.effects import SCORE, SEPARATION, Effect
from safespan.statistics.frontier import frontier_area, progress
from safespan.statistics.prompts import over_prompts, resampled_means


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


def selectivity_effects(frontiers: Mapping[str, Frontier], ends: Ends, resamples: int, seed: int) -> list[Effect]:
    """S under every method, and D = (S_parallel − S_orthogonal) / 2, or −S of an edit; above 0, harm goes first.

    Both methods share each resample of prompts, and D of a control is that of the parallel and the orthogonal part of
    one draw. Outcomes rise with the fine-tune: likelihoods are given as log-likelihoods.

    Args:
        frontiers: method -> outcomes.
        ends: of the two models.
        resamples: of the prompts.
        seed: of the resamples.
    """
    first = next(iter(frontiers.values()))
    sizes = (first.useful.shape[1], first.harmful.shape[1])

    def areas(useful: np.ndarray, harmful: np.ndarray) -> np.ndarray:
        """[S, 1 + R, ...]: of each method and of D; of the hypothesis, then of its controls."""
        each = [_areas(front, ends, useful, harmful) for front in frontiers.values()]
        return np.stack([*each, (each[0] - each[1]) / 2 if len(each) == 2 else -each[0]])

    def values(*prompts: np.ndarray) -> np.ndarray:
        every = areas(*prompts)
        difference: np.ndarray = every[:, 0] - every[:, 1:].mean(1)
        return difference

    labels = [*((SCORE, method) for method in frontiers), (SEPARATION, "")]
    figures = areas(*(np.arange(size) for size in sizes))
    resampled = over_prompts(values, sizes, resamples, seed)
    return [
        Effect(*label, float(own), np.array(controls), drawn, min(sizes))
        for label, (own, *controls), drawn in zip(labels, figures, resampled, strict=True)
    ]


def _areas(front: Frontier, ends: Ends, useful: np.ndarray, harmful: np.ndarray) -> np.ndarray:
    """[1 + R, ...]: areas of the hypothesis and of its controls for prompts [..., N] and [..., M]."""

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

    return frontier_area(
        progressed(front.useful, front.control_useful, (ends.aligned_useful, ends.finetuned_useful), useful),
        progressed(front.harmful, front.control_harmful, (ends.aligned_harmful, ends.finetuned_harmful), harmful),
    )
