"""Means over prompts, and the standard errors that come from the choice of prompts."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

Scores = Callable[..., np.ndarray]
"""Indices [..., N] of the prompts of every kind -> statistics [S, ...]."""


def over_prompts(scores: Scores, sizes: Sequence[int], resamples: int, seed: int) -> Float[np.ndarray, "s b"]:
    """Statistics under bootstrap resamples of the prompts, of each kind independently; controls are held fixed.

    Args:
        scores: the statistics of resampled prompts.
        sizes: numbers of prompts of each kind.
        resamples: B.
        seed: of the resamples; statistics with the same sizes and seed share them.
    """
    generator = np.random.default_rng(seed)
    return scores(*(generator.integers(size, size=(resamples, size)) for size in sizes))


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
