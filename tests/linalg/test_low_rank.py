"""Factors of low rank beside the singular values of float64 LAPACK."""

import numpy as np
import pytest
import torch

from claims import gaussian
from oracle import exact
from safespan.linalg.low_rank import low_rank


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (1, 7), (7, 1)])
def test_the_product_is_the_matrix_at_its_rank(shape: tuple[int, int]) -> None:
    rank = min(4, *shape)
    matrix = gaussian(shape[0], rank) @ gaussian(rank, shape[1], seed=1)
    found = low_rank(matrix, 6, 1e-5 * float(matrix.norm()))
    assert found is not None
    assert (found.left.shape, found.right.shape) == ((shape[0], rank), (rank, shape[1]))
    rest = exact(matrix) - exact(found.left) @ exact(found.right)
    assert found.error == pytest.approx((rest**2).sum(), rel=1e-6, abs=1e-20)
    assert found.error**0.5 < 1e-5 * float(matrix.norm())


def test_the_smallest_rank_within_the_tolerance_is_taken() -> None:
    left, right = (torch.linalg.qr(gaussian(20, 5, seed=seed).double())[0] for seed in (0, 1))
    values = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    matrix = left * values @ right.T
    tails = [float(np.sqrt((values[rank:] ** 2).sum())) for rank in range(6)]
    for rank in range(5):
        found = low_rank(matrix, 5, tails[rank] * 1.001)
        assert found is not None
        assert len(found.right) == rank
    assert low_rank(matrix, 2, tails[3]) is None
    assert low_rank(gaussian(20, 20), 3, 0.1) is None


def test_a_matrix_of_zeros_has_rank_zero() -> None:
    found = low_rank(torch.zeros(4, 6), 3, 0.0)
    assert found is not None
    assert (found.left.shape, found.right.shape, found.error) == ((4, 0), (0, 6), 0.0)
