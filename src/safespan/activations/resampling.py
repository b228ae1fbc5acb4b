"""Permutation p-values and bootstrap intervals of activation overlap."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats

from safespan.subspaces import decompose

_DIRECTIONS = 128


@dataclass(frozen=True)
class Resampling:
    """Numbers of resamples.

    Attributes:
        permutations: of the class labels, for the p-value; 0: none.
        bootstraps: resamples of each class's prompts, for the interval; 0: none.
        seed: of both.
    """

    permutations: int = 200
    bootstraps: int = 200
    seed: int = 0


def resampled_overlap(
    x: Float[torch.Tensor, "N d"],
    y: Float[torch.Tensor, "M d"],
    energies: Sequence[float],
    centered: bool,
    resampling: Resampling,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bootstrap interval and permutation p-value of the mode subspace overlap of two classes of prompts.

    H0 of the permutations: the prompts of both classes come from one distribution; where `centered`, from one
    distribution apart from the class means, which are subtracted first (then the test is exact only as the number of
    prompts grows). The statistic is MSO, and the p-value is the share of relabellings whose overlap is *as small or
    smaller*, the actual one included: a small p-value means that the classes overlap less than random groups of the
    same prompts; a large one means that they overlap as much as random groups do.

    Beyond 128 dimensions all prompts are first projected on the leading 128 directions of both classes together, so
    that the cost of a draw does not grow with the width of the model. These directions do not depend on the labels, so
    the permutation test stays exact; ranks are still those that reach η of the whole energy.

    Args:
        x: N × d, float64; class mean subtracted if `centered`.
        y: M × d, likewise.
        energies: η, each in (0, 1].
        centered: subtract the mean of every group that is drawn.
        resampling: numbers of resamples.

    Returns:
        Low and high end of the 95 % percentile interval over prompts, and p-values, one per energy; NaN if not
        requested, and if a class has a single prompt or no subspace.
    """
    low, high, p_value = np.full((3, len(energies)), np.nan)
    rows, outside = _leading(torch.cat([x, y]))
    if min(len(x), len(y)) < 2 or not x.any() or not y.any() or not len(energies):
        return low, high, p_value

    def overlaps(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
        """MSO [..., E] of groups of prompts, each a row of indices; one pair of bases serves every energy."""
        if first.ndim > 1:
            return np.stack([overlaps(i, j, axis) for i, j in zip(first, second, strict=True)])
        x_basis, y_basis = (_basis(rows[drawn], outside[drawn].sum(), energies, centered) for drawn in (first, second))
        return _mso(x_basis, y_basis)

    groups = np.arange(len(x)), np.arange(len(x), len(rows))
    random = np.random.default_rng(resampling.seed)
    if resampling.bootstraps:
        # Percentiles, not BCa, whose jackknife needs a decomposition for every prompt.
        interval = stats.bootstrap(
            groups, lambda first, second, axis: overlaps(first, second, axis).T, n_resamples=resampling.bootstraps,
            vectorized=True, method="percentile", rng=random,
        ).confidence_interval  # fmt: skip
        low, high = interval.low, interval.high
    if resampling.permutations:
        p_value = stats.permutation_test(
            groups, overlaps, n_resamples=resampling.permutations, vectorized=True, alternative="less", rng=random,
        ).pvalue  # fmt: skip
    return low, high, p_value


def _leading(rows: Float[torch.Tensor, "N d"]) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of rows in their leading directions, and each row's energy outside these."""
    if rows.shape[1] <= _DIRECTIONS:
        return rows.numpy(), np.zeros(len(rows))
    projected = rows @ decompose(rows.T).left[:, :_DIRECTIONS].double()
    outside = (rows**2).sum(1) - (projected**2).sum(1)
    return projected.numpy(), outside.clamp(min=0).numpy()


def _basis(
    rows: np.ndarray, outside: float, energies: Sequence[float], centered: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Principal directions [d, k] of a group of prompts, and the ranks that reach each share of its energy."""
    if centered:
        rows = rows - rows.mean(0)
    squares, vectors = np.linalg.eigh(rows.T @ rows)
    cumulated = np.cumsum(squares[::-1])
    wanted = np.asarray(energies) * (cumulated[-1] + outside) * (1 - 1e-12)
    ranks = np.minimum(np.searchsorted(cumulated, wanted) + 1, len(cumulated))
    return vectors[:, ::-1][:, : ranks.max()], ranks if cumulated[-1] > 0 else np.zeros_like(ranks)


def _mso(x: tuple[np.ndarray, np.ndarray], y: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """MSO at every energy; 0 if a group has no subspace."""
    smaller = np.minimum(x[1], y[1])
    cumulated = ((x[0].T @ y[0]) ** 2).cumsum(0).cumsum(1)
    return np.where(smaller, cumulated[x[1] - 1, y[1] - 1] / np.maximum(smaller, 1), 0.0)
