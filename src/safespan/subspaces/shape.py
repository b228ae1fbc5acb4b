"""Effective rank, stable rank and singular values of an update (METHODS §3)."""

import numpy as np
import torch
from jaxtyping import Float

from safespan.results.tables import SpectrumPoint

MOST_POINTS = 48
"""Largest number of points of one spectrum in a table."""


def effective_rank(values: Float[torch.Tensor, " r"]) -> float:
    """exp of the entropy of σ_i / Σσ, between 1 and r (Roy and Vetterli, EUSIPCO 2007); 0 of a zero matrix.

    Args:
        values: [r], the singular values above zero, in float64.
    """
    return float(torch.special.entr(values / values.sum()).sum().exp()) if len(values) else 0.0


def stable_rank(values: Float[torch.Tensor, " r"]) -> float:
    """‖·‖²_F / σ_1², between 1 and r; 0 of a zero matrix.

    Args:
        values: [r], the singular values above zero, falling, in float64.
    """
    return float(((values / values[0]) ** 2).sum()) if len(values) else 0.0


def spectrum_points(values: Float[torch.Tensor, " r"]) -> list[SpectrumPoint]:
    """Points of the curve of singular values, evenly spaced on a logarithmic axis.

    Args:
        values: [r], the singular values above zero, falling, in float64.

    Returns:
        At most `MOST_POINTS` points, those of the first and the last value among them; none of a zero matrix.
    """
    if not len(values):
        return []
    ranks = np.unique(np.geomspace(1, len(values), MOST_POINTS).round().astype(int)).tolist()
    cumulated = torch.cumsum((values / values[0]) ** 2, 0)
    whole = effective_rank(values), stable_rank(values)
    return [SpectrumPoint(i, float(values[i - 1]), float(cumulated[i - 1] / cumulated[-1]), *whole) for i in ranks]
