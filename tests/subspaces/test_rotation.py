"""Random rotations against their own dense matrix, closed forms, and Haar's moments."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from claims import gaussian
from oracle import exact
from safespan.subspaces import RandomRotation, random_part

SIZES = st.integers(1, 24)
SIDES = {"output": ("w/output", None), "input": (None, "w/input"), "both": ("w/output", "w/input")}


def dense(size: int, seed: int = 0, name: str = "w") -> np.ndarray:
    return exact(RandomRotation(size, seed, name).apply(torch.eye(size)))


def squared(matrix: np.ndarray) -> float:
    return float((matrix**2).sum())


@settings(max_examples=40)
@given(st.integers(1, 70), SIZES, st.integers(0, 99))
def test_it_is_orthogonal_linear_and_inverted(m, n, seed):
    rotation, columns = RandomRotation(m, seed, "w"), gaussian(m, n, seed=seed)
    q = dense(m, seed)
    np.testing.assert_allclose(q @ q.T, np.eye(m), atol=2e-6)
    np.testing.assert_allclose(exact(rotation.apply(columns)), q @ exact(columns), atol=2e-5)
    np.testing.assert_allclose(exact(rotation.invert(columns)), q.T @ exact(columns), atol=2e-5)
    np.testing.assert_allclose(exact(rotation.invert(rotation.apply(columns))), exact(columns), atol=1e-5)


def test_a_draw_is_seeded_and_own_to_each_name():
    assert np.array_equal(dense(16, 1, "a"), dense(16, 1, "a"))
    for other in (dense(16, 2, "a"), dense(16, 1, "b")):
        assert np.abs(dense(16, 1, "a") - other).max() > 0.1


@pytest.mark.parametrize(("m", "r"), [(32, 8), (48, 24), (45, 40)])
def test_the_energy_of_its_first_rows_has_haars_mean_and_variance(m, r):
    """‖Q_r x‖² of a unit x is Beta(r/2, (m−r)/2): mean r/m, variance 2 r (m−r) / (m² (m+2))."""
    draws = 3000
    for x in (torch.eye(m)[:, :1], torch.ones(m, 1) / m**0.5):
        kept = np.array([squared(exact(RandomRotation(m, seed, "w").apply(x)[:r])) for seed in range(draws)])
        variance = 2 * r * (m - r) / (m**2 * (m + 2))
        assert abs(kept.mean() - r / m) < 5 * (variance / draws) ** 0.5
        # The variance of a sample variance is about 2 σ⁴ / draws.
        assert abs(kept.var() / variance - 1) < 5 * (2 / draws) ** 0.5 + 0.1


@pytest.mark.parametrize("side", SIDES)
@settings(max_examples=40)
@given(m=st.integers(2, 24), n=st.integers(2, 24), seed=st.integers(0, 99), share=st.floats(0.01, 2.0))
def test_a_part_keeps_exactly_the_energy_asked_for(side, m, n, seed, share):
    delta = gaussian(m, n, seed=seed)
    energy = share * squared(exact(delta))
    assert squared(exact(random_part(delta, energy, SIDES[side], seed))) == pytest.approx(energy, rel=1e-5)


@pytest.mark.parametrize("side", SIDES)
@settings(max_examples=40)
@given(m=st.integers(2, 24), n=st.integers(2, 24), seed=st.integers(0, 99), share=st.floats(0.05, 0.95))
def test_a_part_is_a_projection_on_the_first_rows_rescaled(side, m, n, seed, share):
    delta = gaussian(m, n, seed=seed)
    energy = share * squared(exact(delta))
    each = share ** (1 / sum(space is not None for space in SIDES[side]))
    assume(all(abs(each * size % 1 - 0.5) > 1e-3 for size in (m, n)))  # a rank that rounding decides
    expected = exact(delta)
    if side != "input":
        rows = dense(m, seed, "w/output")[: max(1, round(each * m))]
        expected = rows.T @ rows @ expected
    if side != "output":
        rows = dense(n, seed, "w/input")[: max(1, round(each * n))]
        expected = expected @ rows.T @ rows
    drawn = exact(random_part(delta, energy, SIDES[side], seed))
    scale = (energy / squared(expected)) ** 0.5
    np.testing.assert_allclose(drawn, scale * expected, atol=1e-4 * scale)
    # An orthogonal projection: what is left is orthogonal to it.
    assert (drawn / scale * exact(delta)).sum() == pytest.approx(squared(drawn / scale), rel=1e-4)


def test_parts_of_one_draw_are_nested():
    delta = gaussian(20, 30)
    whole = squared(exact(delta))
    small, large = (exact(random_part(delta, share * whole, SIDES["output"], 0)) for share in (0.3, 0.7))
    left, values, _ = np.linalg.svd(large, full_matrices=False)
    rank = int((values > 1e-4 * values[0]).sum())
    assert (np.linalg.matrix_rank(small, tol=1e-4), rank) == (6, 14)
    np.testing.assert_allclose(left[:, :rank] @ left[:, :rank].T @ small, small, atol=1e-4)


def test_nothing_all_and_more_than_all():
    delta = gaussian(5, 7)
    whole = squared(exact(delta))
    assert not random_part(delta, 0.0, SIDES["both"], 0).any()
    assert not random_part(torch.zeros(5, 7), 3.0, SIDES["both"], 0).any()
    for energy in (whole, 9 * whole):
        drawn = exact(random_part(delta, energy, SIDES["both"], 0))
        np.testing.assert_allclose(drawn, (energy / whole) ** 0.5 * exact(delta), rtol=1e-5)


@pytest.mark.parametrize("m", [1, 2, 4])
@pytest.mark.parametrize("seed", range(8))
def test_a_few_rows_that_the_draw_could_miss(m, seed):
    """Of very few rows, Δ can be orthogonal to what was drawn."""
    for delta in (torch.ones(m, 1), torch.eye(m)[:, :1].clone()):
        energy = 0.25 * squared(exact(delta))
        assert squared(exact(random_part(delta, energy, SIDES["output"], seed))) == pytest.approx(energy, rel=1e-5)
