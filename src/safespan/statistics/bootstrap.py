"""Estimates with intervals, from a bootstrap over prompts and draws of controls."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy  # loads scipy.stats, a slow import, on first use
from jaxtyping import Float

from safespan.settings.verdict import SelectivityConfig

Scores = Callable[..., np.ndarray]
"""Indices [..., N] of the prompts of every kind, then those of the draws [..., R] -> statistics [S, ...]."""

_PART_RESAMPLES = 500
"""Resamples for the standard error from one source alone."""


@dataclass(frozen=True)
class Estimate:
    """One statistic of a claim beside its controls.

    Attributes:
        statistic: S, D, A or T (METHODS §7).
        method: of S: parallel, orthogonal or edit; else empty.
        value: the estimate.
        low: lower end of its interval.
        high: upper end.
        area: of the claim; NaN of D.
        control_area: mean of the controls' areas.
        control_sd: their standard deviation over draws.
        p_beyond: of the test that |value| is no more than the margin, in the direction of the value.
        p_within: of the two tests that |value| is no less than the margin.
        sd_prompts: standard error from the choice of prompts.
        sd_controls: standard error from the draws of controls.
    """

    statistic: str
    method: str
    value: float
    low: float
    high: float
    area: float
    control_area: float
    control_sd: float
    p_beyond: float
    p_within: float
    sd_prompts: float
    sd_controls: float


def bootstrapped(
    scores: Scores,
    sizes: Sequence[int],
    labels: Sequence[tuple[str, str]],
    areas: Float[np.ndarray, "s 3"],
    config: SelectivityConfig,
    seed: int,
) -> list[Estimate]:
    """Estimates of several statistics from one joint bootstrap; prompts of each kind and draws vary independently.

    Args:
        scores: the statistics of resampled prompts and draws.
        sizes: numbers of prompts of each kind, and of draws, which come last.
        labels: (statistic, method) of every statistic.
        areas: area of the claim, mean area of the controls and its standard deviation, of every statistic.
        config: intervals and margin.
        seed: of the bootstrap.
    """
    samples = [np.arange(size) for size in sizes]
    observed = scores(*samples)
    prompts, draws = [True] * (len(sizes) - 1), [False] * (len(sizes) - 1)
    resampled = partial(_resampled, scores, samples, config.confidence, seed)
    distribution, low, high = resampled((*prompts, True), config.resamples)
    parts = ((*prompts, False), (*draws, True))
    deviations = (resampled(part, _PART_RESAMPLES)[0].std(-1, ddof=1) for part in parts)
    p_values = np.array([_p_values(drawn, s, config.margin) for drawn, s in zip(distribution, observed, strict=True)])
    figures = np.column_stack([observed, low, high, areas, p_values, *deviations])
    return [Estimate(*label, *row) for label, row in zip(labels, figures.tolist(), strict=True)]


def _resampled(
    scores: Scores,
    samples: Sequence[np.ndarray],
    confidence: float,
    seed: int,
    chosen: Sequence[bool],
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


def resampled_means(values: Float[np.ndarray, "*k n"], prompts: np.ndarray) -> np.ndarray:
    """Means over resampled prompts [..., n], as products with the counts of draws; NaN is left out."""
    size = values.shape[-1]
    rows = prompts.reshape(-1, prompts.shape[-1])
    cells = (np.arange(len(rows))[:, None] * size + rows).ravel()
    drawn = np.bincount(cells, minlength=len(rows) * size).reshape(len(rows), size).T.astype(float)
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        whole = prompts.shape[-1] if known.all() else known.astype(float) @ drawn
        means = (np.where(known, values, 0.0) @ drawn) / whole
    return np.reshape(means, (*values.shape[:-1], *prompts.shape[:-1]))


def _p_values(distribution: np.ndarray, s: float, margin: float) -> tuple[float, float]:
    def share(beside: np.ndarray) -> float:
        return float((1 + beside.sum()) / (1 + len(beside)))

    toward = distribution if s >= 0 else -distribution
    return share(toward <= margin), max(share(distribution >= margin), share(distribution <= -margin))
