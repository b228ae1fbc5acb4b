import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from claims import claimed, gaussian
from safespan.errors import ConfigError
from safespan.subspaces import decompose, random_basis, rank_of_fraction
from safespan.subspaces.bases import seeded
from safespan.subspaces.spectrum import orthonormalize

SIZES = st.integers(1, 24)


@settings(max_examples=40)
@given(SIZES, SIZES, st.integers(0, 99))
def test_spectrum_is_lapacks(m, n, seed):
    matrix = gaussian(m, n, seed=seed)
    spectrum = decompose(matrix)
    left, values, _ = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    rank = len(spectrum.values)
    np.testing.assert_allclose(spectrum.values.numpy(), values[:rank], rtol=1e-6)
    assert (values[rank:] < 1e-5 * values[0]).all()
    for k in {1, rank // 2, rank} - {0}:
        if k < len(values) and values[k - 1] - values[k] < 1e-3 * values[0]:
            continue  # two singular values nearly meet there: LAPACK itself leaves the subspace open
        projector = spectrum.left[:, :k] @ spectrum.left[:, :k].T
        np.testing.assert_allclose(projector.numpy(), left[:, :k] @ left[:, :k].T, atol=1e-6)


@pytest.mark.parametrize("shape", [(30, 20), (20, 30)])
def test_small_directions_survive(shape):
    """A float32 Gram matrix loses them (DESIGN, Numerics)."""
    left = torch.linalg.qr(gaussian(shape[0], 20, seed=1).double()).Q
    right = torch.linalg.qr(gaussian(shape[1], 20, seed=2).double()).Q
    matrix = left @ torch.diag(torch.logspace(0, -4, 20, dtype=torch.float64)) @ right.T
    leading = decompose(matrix).left[:, :15].double()
    torch.testing.assert_close(leading @ leading.T, left[:, :15] @ left[:, :15].T, atol=1e-6, rtol=0)


def test_rank_deficient_and_zero():
    low = gaussian(20, 3, seed=0) @ gaussian(3, 30, seed=1)
    assert decompose(low.double()).left.shape == (20, 3)
    assert decompose(low.double().T).left.shape == (30, 3)
    assert decompose(torch.zeros(4, 5)).left.shape == (4, 0)


def test_rank_for_energy_is_the_smallest():
    spectrum = decompose(torch.diag(torch.tensor([3.0, 2.0, 1.0])))  # energies 9, 4, 1 of 14
    assert [spectrum.rank_for_energy(e) for e in (0.01, 9 / 14, 0.65, 13 / 14, 0.95, 1.0)] == [1, 1, 2, 2, 3, 3]


SUBSPACE = st.sampled_from(["alignment", "random-k", "random"])
SIDE = st.sampled_from(["output", "input", "both"])


@settings(max_examples=60)
@given(SIZES, SIZES, st.integers(0, 9), SUBSPACE, SIDE)
def test_every_basis_projects(m, n, seed, subspace, side):
    """Twice is once, energies are those of the projection, and a band is a difference."""
    basis = claimed(subspace, side=side, seed=seed, alignment=gaussian(m, n, seed=seed))
    delta = gaussian(m, n, seed=seed + 100)
    coefficients = basis.coefficients(delta)
    energies = basis.energies(coefficients)
    most = len(energies)
    for k in {1, most // 2, most} - {0}:
        once = basis.parallel(coefficients, k)
        torch.testing.assert_close(basis.parallel(basis.coefficients(once), k), once, atol=1e-5, rtol=0)
        assert float(energies[k - 1]) == pytest.approx(float((once.double() ** 2).sum()), rel=1e-5)
        if side != "both":
            band = basis.parallel(coefficients, most, k)
            torch.testing.assert_close(once + band, basis.parallel(coefficients, most), atol=1e-5, rtol=0)
        ordered, taken = basis.in_order(coefficients)
        torch.testing.assert_close(ordered.parallel(taken, k), once, atol=1e-6, rtol=0)


def test_random_bases_are_seeded_and_own_to_each_tensor():
    matrix, delta = gaussian(12, 20, seed=0), gaussian(12, 20, seed=1)

    def part(subspace, seed, name):
        basis = claimed(subspace, name=name, seed=seed, alignment=matrix)
        return basis.parallel(basis.coefficients(delta), 5)

    for subspace in ("random-k", "random"):
        first = part(subspace, 0, "a")
        assert torch.equal(first, part(subspace, 0, "a"))
        assert not torch.equal(first, part(subspace, 1, "a"))
        assert not torch.equal(first, part(subspace, 0, "b"))


def test_random_k_draws_from_the_singular_vectors():
    matrix = gaussian(12, 20, seed=0)
    basis = claimed("random-k", alignment=matrix)
    drawn = basis.in_order(torch.zeros(12, 20))[0].left
    matches = (decompose(matrix).left.T @ drawn).abs().round(decimals=4)
    assert torch.equal(matches.sum(0), torch.ones(12))
    assert torch.equal(matches.sum(1), torch.ones(12))


def test_ranks():
    assert [rank_of_fraction(f, (64, 10)) for f in (0.001, 0.25, 0.5, 0.99, 1.0)] == [1, 2, 5, 10, 10]
    for fraction in (0.0, -0.1, 1.01, float("nan")):
        with pytest.raises(ConfigError, match="outside"):
            rank_of_fraction(fraction, (4, 4))


@pytest.mark.parametrize("shape", [(300, 300), (5000, 40), (1, 7)])
def test_random_bases_are_orthonormal(shape):
    basis = random_basis(shape, 0, "a").double()
    assert basis.shape == (shape[0], min(shape))
    torch.testing.assert_close(basis.T @ basis, torch.eye(min(shape), dtype=torch.float64), atol=1e-5, rtol=0)


@pytest.mark.parametrize("smallest", [1e-3, 1e-7, 1e-12, 0])
@pytest.mark.parametrize("shape", [(64, 64), (90, 60)])
def test_an_ill_conditioned_matrix_has_the_q_of_householder(shape, smallest):
    """One draw of a square Gaussian in tens of thousands is so, and no seed may end in a basis that is none."""
    size = shape[1]
    left = torch.linalg.qr(gaussian(shape[0], size, seed=3).double()).Q
    right = torch.linalg.qr(gaussian(size, size, seed=4).double()).Q
    values = torch.ones(size, dtype=torch.float64)
    values[-1] = smallest
    matrix = (left * values) @ right.T
    found = orthonormalize(matrix.float()).double()
    torch.testing.assert_close(found.T @ found, torch.eye(size, dtype=torch.float64), atol=1e-6, rtol=0)
    q, r = np.linalg.qr(matrix.float().double().numpy())
    # The last column of a singular matrix is any one that is orthogonal to the others.
    expected = (q * np.sign(np.diag(r)))[:, : size - (smallest < 1e-5)]
    np.testing.assert_allclose(found[:, : expected.shape[1]].numpy(), expected, atol=1e-5)


def test_the_seed_that_gave_a_condition_of_five_million():
    """It ended a study: 0.0013 of the last column lay along the others."""
    name = "model.layers.1.self_attn.o_proj.weight/output"
    basis = orthonormalize(torch.randn(64, 64, generator=seeded(8, "random", name))).double()
    torch.testing.assert_close(basis.T @ basis, torch.eye(64, dtype=torch.float64), atol=1e-6, rtol=0)


def test_a_tall_matrix_of_several_chunks_has_lapacks_spectrum():
    matrix = gaussian(9000, 12, seed=0) @ torch.diag(torch.logspace(0, -3, 12))
    left, values, _ = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    spectrum = decompose(matrix)
    np.testing.assert_allclose(spectrum.values.numpy(), values, rtol=1e-8)
    # The same six-dimensional subspace: nothing of either basis lies outside the other's.
    ours, lapacks = spectrum.left[:, :6].double().numpy(), left[:, :6]
    np.testing.assert_allclose(lapacks @ (lapacks.T @ ours), ours, atol=1e-6)
    np.testing.assert_allclose(ours @ (ours.T @ lapacks), lapacks, atol=1e-6)


def test_a_steep_tall_spectrum_keeps_orthonormal_vectors():
    left = torch.linalg.qr(gaussian(5000, 30, seed=1).double()).Q
    right = torch.linalg.qr(gaussian(30, 30, seed=2).double()).Q
    left_vectors = decompose(left @ torch.diag(torch.logspace(0, -5, 30, dtype=torch.float64)) @ right.T).left.double()
    assert left_vectors.shape == (5000, 30)
    torch.testing.assert_close(left_vectors.T @ left_vectors, torch.eye(30, dtype=torch.float64), atol=1e-6, rtol=0)
