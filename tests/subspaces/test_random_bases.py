"""Random bases against the closed forms of Haar-distributed subspaces."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from claims import gaussian
from safespan.subspaces import random_basis

DRAWS, SIZE, RANK = 1500, 12, 4


def energies(delta: torch.Tensor, names: tuple[str, ...]) -> np.ndarray:
    """The share of ‖Δ‖² in the first RANK directions: a row a seed, a column a name."""
    shape, whole = (delta.shape[0], delta.shape[1]), float((delta**2).sum())
    found = [
        [float(((random_basis(shape, seed, name)[:, :RANK].T @ delta) ** 2).sum()) / whole for name in names]
        for seed in range(DRAWS)
    ]
    return np.array(found)


@pytest.mark.parametrize("columns", [12, 5])
def test_the_energy_of_one_direction_has_the_distribution_of_haar(columns):
    """‖P_k u‖² of a unit vector u is Beta(k/2, (m − k)/2)."""
    along = torch.zeros(SIZE, columns)
    along[3, 1] = 2.0
    kept = energies(along, ("a", "b"))
    for name in range(2):
        assert stats.kstest(kept[:, name], stats.beta(RANK / 2, (SIZE - RANK) / 2).cdf).pvalue > 0.01


def test_energies_of_two_matrices_are_uncorrelated():
    """Also where both hold the same update, which is the worst case for bases made from one draw."""
    for delta in (gaussian(SIZE, SIZE, seed=0), torch.eye(SIZE)[:, :1] @ torch.ones(1, SIZE)):
        kept = energies(delta, ("a", "b"))
        assert abs(np.corrcoef(kept.T)[0, 1]) < 3 / math.sqrt(DRAWS)
        np.testing.assert_allclose(kept.mean(), RANK / SIZE, atol=4 * kept.std() / math.sqrt(kept.size))


@pytest.mark.parametrize("shape", [(8, 8), (20, 6), (90, 6)])
def test_a_basis_is_own_to_its_seed_and_its_matrix(shape):
    basis = random_basis(shape, 0, "a")
    assert torch.equal(basis, random_basis(shape, 0, "a"))
    for other in (random_basis(shape, 1, "a"), random_basis(shape, 0, "b")):
        assert float((basis - other).abs().max()) > 0.05


def test_a_basis_can_be_changed_without_changing_the_next():
    first = random_basis((10, 10), 5, "a")
    kept = first.clone()
    first.zero_()
    assert torch.equal(random_basis((10, 10), 5, "a"), kept)
