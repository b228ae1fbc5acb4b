"""Factors of a matrix of low rank, by a randomised range finder (Halko, Martinsson, Tropp 2011, arXiv 0909.4061)."""

from typing import NamedTuple

import torch
from jaxtyping import Float

_OVERSAMPLED = 8


class LowRank(NamedTuple):
    """Two factors of a matrix.

    Attributes:
        left: [m, r], float32.
        right: [r, n], float32; σ is shared equally by both.
        error: ‖X − left·right‖²_F.
    """

    left: Float[torch.Tensor, "m r"]
    right: Float[torch.Tensor, "r n"]
    error: float


def low_rank(matrix: Float[torch.Tensor, "m n"], most: int, tolerance: float) -> LowRank | None:
    """Factors of the smallest rank that leave out at most `tolerance` in the Frobenius norm; None above rank `most`.

    The range is found from products with random columns, so that no large matrix is decomposed. What they miss counts
    as left out. The arithmetic is in float64, on the CPU.

    Args:
        matrix: X.
        most: the largest rank.
        tolerance: largest ‖X − B·A‖_F of factors before they are rounded to float32.
    """
    exact = matrix.double().cpu()
    columns = min(most + _OVERSAMPLED, *exact.shape)
    drawn = torch.randn(exact.shape[1], columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    within, _ = torch.linalg.qr(exact @ drawn)
    small = within.T @ exact
    missed = float((exact - within @ small).square().sum())
    left, values, right = torch.linalg.svd(small, full_matrices=False)
    tails = (values**2).flip(0).cumsum(0).flip(0)  # of rank 0, 1, …: what is left out
    rank = int((missed + tails > tolerance**2).sum())
    if missed > tolerance**2 or rank > most:
        return None
    roots = values[:rank].sqrt()
    factors = (within @ left[:, :rank] * roots).float(), (roots[:, None] * right[:rank]).float()
    error = float((exact - factors[0].double() @ factors[1].double()).square().sum())
    return LowRank(*factors, error)
