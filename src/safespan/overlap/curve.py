"""Overlap of two subspaces at every share of energy, and that of random subspaces (METHODS §3)."""

from collections.abc import Sequence

import numpy as np
import scipy  # loads scipy.stats, a slow import, on first use
import torch
from jaxtyping import Float

from safespan.linalg.kernels import gram, product
from safespan.results.tables import OverlapPoint
from safespan.subspaces import Spectrum

_MOST_ANGLES = 256
"""Principal angles of two larger subspaces are left out: they are expensive and not informative."""


def overlap_curve(x: Spectrum, y: Spectrum, energies: Sequence[float]) -> list[OverlapPoint]:
    """MSO at every energy fraction, from one product of the two bases.

    The cumulative sums of the squares of Q_Xᵀ Q_Y contain the MSO of every pair of ranks.

    Args:
        x: spectrum of the first update, [m, r_x].
        y: spectrum of the second, [m, r_y].
        energies: η, each in (0, 1].
    """
    ranks = [(x.rank_for_energy(energy), y.rank_for_energy(energy)) for energy in energies]
    most_x, most_y = max((k for k, _ in ranks), default=0), max((k for _, k in ranks), default=0)
    if not most_x or not most_y:
        return [OverlapPoint(energy, *k, *[float("nan")] * 6) for energy, k in zip(energies, ranks, strict=True)]
    cross_product = product(x.left[:, :most_x].T, y.left[:, :most_y])
    cumulated = (cross_product.double() ** 2).cumsum(0).cumsum(1)
    different = list(dict.fromkeys(ranks))
    # The rounding of bases in float32 can give an overlap above 1.
    shared = np.array([min(1.0, float(cumulated[k[0] - 1, k[1] - 1]) / min(k)) for k in different])
    k_x, k_y = np.array(different).T
    mean, deviation, p_value = random_overlap(k_x, k_y, len(x.left), shared)
    angles = [_angles(x.left[:, :k], y.left[:, :j], cross_product[:k, :j]) for k, j in different]
    columns = np.column_stack([shared, mean, deviation, p_value, angles])
    by_ranks = dict(zip(different, columns.tolist(), strict=True))
    return [OverlapPoint(energy, *k, *by_ranks[k]) for energy, k in zip(energies, ranks, strict=True)]


def random_overlap(
    k_x: np.ndarray, k_y: np.ndarray, m: int, mso: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """MSO by chance: between any k_X-dimensional subspace of R^m and a Haar-random k_Y-dimensional one.

    ‖Q_Xᵀ Q_Y‖²_F has the mean k_X k_Y / m, and the variance 2 k_X k_Y (m − k_X)(m − k_Y) / (m² (m − 1)(m + 2)) from
    the fourth moments of the orthogonal group (Collins and Śniady, Commun. Math. Phys. 264, 2006). It is at least
    k_X + k_Y − m, as larger subspaces must meet. Its tail is that of the Beta distribution between that bound and the
    largest MSO, 1, with the same two moments. That is exact where either subspace or its complement is a line, as the
    squared cosine of a random line with a k-dimensional subspace is Beta(k/2, (m − k)/2), and close elsewhere.

    Args:
        k_x: ranks, at least 1.
        k_y: ranks, at least 1, of the same shape.
        m: dimension of the space.
        mso: observed overlaps, of the same shape.

    Returns:
        Mean and standard deviation of MSO, and the probability of an overlap at least as large as the observed one.
    """
    smaller, mean = np.minimum(k_x, k_y), np.maximum(k_x, k_y) / m
    variance = 2 * mean * (m - k_x) * (m - k_y) / (m * max(1, m - 1) * (m + 2) * smaller)
    deviation = np.sqrt(variance)
    low = np.maximum(0, k_x + k_y - m) / smaller
    random = deviation > 0  # else one of the two is the whole space
    scale = np.where(random, 1 - low, 1)
    centre = np.where(random, (mean - low) / scale, 0.5)
    size = centre * (1 - centre) / np.where(random, deviation / scale, 0.25) ** 2 - 1
    tail = scipy.stats.beta.sf((mso - low) / scale, centre * size, (1 - centre) * size)
    return mean, deviation, np.where(random, tail, 1.0)


def _angles(
    x: Float[torch.Tensor, "m k"], y: Float[torch.Tensor, "m l"], cross_product: Float[torch.Tensor, "k l"]
) -> tuple[float, float]:
    """Smallest and median principal angle between two subspaces, in degrees, from their cross_product product XᵀY.

    The cosine of a small angle is 1 to all its digits, so angles below 45° come from their sines, the singular values
    of the part of Y outside X (Björck and Golub, Math. Comput. 27, 1973).
    """
    if min(cross_product.shape) > _MOST_ANGLES:
        return float("nan"), float("nan")
    if len(cross_product) < cross_product.shape[1]:
        x, y, cross_product = y, x, cross_product.T
    cosines = _singular_values(cross_product)[::-1]
    angles = np.arccos(np.minimum(cosines, 1))
    if (small := cosines**2 >= 0.5).any():
        sines = _singular_values(y - product(x, cross_product))
        angles[small] = np.arcsin(np.minimum(sines, 1))[small]
    smallest, median = np.degrees([angles.min(), np.median(angles)])
    return float(smallest), float(median)


def _singular_values(tall: Float[torch.Tensor, "m k"]) -> np.ndarray:
    """Singular values, rising, to √ε of float64, which is finer than bases in float32 are."""
    squares = np.linalg.eigvalsh(gram(tall.double()).cpu().numpy())
    values: np.ndarray = np.sqrt(np.maximum(squares, 0))
    return values
