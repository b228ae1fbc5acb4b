"""Selectivity S of a hypothesis against its random controls, with intervals over prompts and control draws."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy  # loads scipy.stats, a slow import, on first use
from jaxtyping import Float

from safespan.settings.verdict import SelectivityConfig
from safespan.statistics.frontier import frontier_area, progress

SEPARATION = "separation"
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


@dataclass(frozen=True)
class Estimate:
    """S under one method, or the separation D.

    Attributes:
        method: parallel, orthogonal or edit; or `separation`.
        s: the estimate.
        low: lower end of its interval.
        high: upper end.
        area: under the hypothesis's frontier; NaN of the separation.
        control_area: mean of the controls' areas.
        control_sd: their standard deviation over draws.
        p_beyond: of the test that |S| is no more than the margin, in the direction of s.
        p_within: of the two tests that |S| is no less than the margin.
        sd_prompts: standard error from the choice of prompts.
        sd_controls: standard error from the draws of controls.
    """

    method: str
    s: float
    low: float
    high: float
    area: float
    control_area: float
    control_sd: float
    p_beyond: float
    p_within: float
    sd_prompts: float
    sd_controls: float


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
    samples = [np.arange(size) for size in sizes]

    def scores(useful: np.ndarray, harmful: np.ndarray, draws: np.ndarray) -> np.ndarray:
        areas = [_areas(front, ends, useful, harmful) for front in frontiers.values()]
        s = np.stack([area - np.take_along_axis(controls, draws, -1).mean(-1) for area, controls in areas])
        separation = (s[0] - s[1]) / 2 if len(s) == 2 else -s[0]
        return np.concatenate([s, separation[None]])

    resampled = partial(_resampled, scores, samples, config.confidence, seed)
    observed = scores(*samples)
    distribution, low, high = resampled((True, True, True), config.resamples)
    sd_prompts, sd_controls = (
        resampled(chosen, 500)[0].std(-1, ddof=1) for chosen in ((True, True, False), (False, False, True))
    )
    areas = [_areas(front, ends, samples[0], samples[1]) for front in frontiers.values()]
    of_areas = np.array([*((area, controls.mean(), controls.std(ddof=1)) for area, controls in areas), [np.nan] * 3])
    p_values = np.array([_p_values(drawn, s, config.margin) for drawn, s in zip(distribution, observed, strict=True)])
    figures = np.column_stack([observed, low, high, of_areas, p_values, sd_prompts, sd_controls])
    return [Estimate(method, *row) for method, row in zip((*frontiers, SEPARATION), figures.tolist(), strict=True)]


def _resampled(
    scores: Callable[..., np.ndarray],
    samples: Sequence[np.ndarray],
    confidence: float,
    seed: int,
    chosen: tuple[bool, bool, bool],
    resamples: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bootstrap distribution and interval of scores, over those of the samples that are chosen."""

    def with_fixed(*varied: np.ndarray, axis: int = -1) -> np.ndarray:
        remaining, shape = iter(varied), varied[0].shape[:-1]
        resample = [
            next(remaining) if vary else np.broadcast_to(sample, (*shape, len(sample)))
            for vary, sample in zip(chosen, samples, strict=True)
        ]
        return scores(*resample)

    with warnings.catch_warnings():
        # Outcomes that do not vary have an interval of no width.
        warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
        drawn = scipy.stats.bootstrap(
            [sample for vary, sample in zip(chosen, samples, strict=True) if vary],
            with_fixed,
            vectorized=True,
            paired=False,
            method="percentile",
            confidence_level=confidence,
            n_resamples=resamples,
            rng=np.random.default_rng(seed),
        )
    return drawn.bootstrap_distribution, drawn.confidence_interval.low, drawn.confidence_interval.high


def _areas(front: Frontier, ends: Ends, useful: np.ndarray, harmful: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas of the hypothesis [...] and its controls [..., R] for prompts [..., N] and [..., M]."""

    def area(u: np.ndarray, h: np.ndarray) -> np.ndarray:
        progressed = [
            progress(np.moveaxis(_means(values, prompts), 0, -1), *(_means(end, prompts)[..., None] for end in both))
            for values, prompts, both in (
                (u, useful, (ends.aligned_useful, ends.finetuned_useful)),
                (h, harmful, (ends.aligned_harmful, ends.finetuned_harmful)),
            )
        ]
        return frontier_area(*progressed)

    draws = zip(front.control_useful, front.control_harmful, strict=True)
    return area(front.useful, front.harmful), np.stack([area(u, h) for u, h in draws], axis=-1)


def _means(values: Float[np.ndarray, "*k n"], prompts: np.ndarray) -> np.ndarray:
    """Means over resampled prompts [..., n], as products with the counts of draws; NaN is left out."""
    size = values.shape[-1]
    rows = prompts.reshape(-1, prompts.shape[-1])
    cells = (np.arange(len(rows))[:, None] * size + rows).ravel()
    drawn = np.bincount(cells, minlength=len(rows) * size).reshape(len(rows), size).T.astype(float)
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        means = (np.where(known, values, 0.0) @ drawn) / (known.astype(float) @ drawn)
    return np.reshape(means, (*values.shape[:-1], *prompts.shape[:-1]))


def _p_values(distribution: np.ndarray, s: float, margin: float) -> tuple[float, float]:
    def share(beside: np.ndarray) -> float:
        return float((1 + beside.sum()) / (1 + len(beside)))

    toward = distribution if s >= 0 else -distribution
    return share(toward <= margin), max(share(distribution >= margin), share(distribution <= -margin))
