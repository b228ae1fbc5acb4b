import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from claims import gaussian
from oracle import exact, spectrum_shape
from safespan.subspaces import decompose, effective_rank, spectrum_points, stable_rank
from safespan.subspaces.shape import MOST_POINTS

SIZES = st.integers(1, 24)


@settings(max_examples=40)
@given(SIZES, SIZES, st.integers(0, 99))
def test_the_shape_of_a_spectrum_is_lapacks(m, n, seed):
    matrix = gaussian(m, n, seed=seed)
    values, energy, effective, stable = spectrum_shape(exact(matrix))
    rows = spectrum_points(decompose(matrix).values)
    assert (rows[0].rank, rows[-1].rank, rows[-1].energy) == (1, min(m, n), 1)
    for row in rows:
        assert row.singular_value == pytest.approx(values[row.rank - 1], rel=1e-6)
        assert row.energy == pytest.approx(energy[row.rank - 1], rel=1e-9)
        assert (row.effective_rank, row.stable_rank) == pytest.approx((effective, stable), rel=1e-6)


SPECTRA = st.lists(st.floats(1e-6, 1), min_size=1, max_size=30).map(lambda values: sorted(values, reverse=True))


@given(SPECTRA, st.floats(-150, 150))
def test_ranks_are_between_one_and_the_rank_at_any_scale(values, exponent):
    spectrum = torch.tensor(values, dtype=torch.float64)
    # Σ(σ/σ_1)² ≤ Σσ/σ_1, the exponential of the min-entropy, which is no more than the entropy.
    assert stable_rank(spectrum) <= effective_rank(spectrum) * (1 + 1e-9)
    for rank in (effective_rank, stable_rank):
        assert 1 - 1e-9 <= rank(spectrum) <= len(values) * (1 + 1e-9)
        assert rank(spectrum * 10**exponent) == pytest.approx(rank(spectrum), rel=1e-9)


@settings(max_examples=30)
@given(SIZES, SIZES, st.integers(0, 99))
def test_rotations_change_no_rank(m, n, seed):
    matrix = gaussian(m, n, seed=seed).double()
    left, right = (torch.linalg.qr(gaussian(size, size, seed=seed + size).double()).Q for size in (m, n))
    plain, turned = (decompose(given).values for given in (matrix, left @ matrix @ right))
    for rank in (effective_rank, stable_rank):
        assert rank(turned) == pytest.approx(rank(plain), rel=1e-6)


@given(st.integers(1, 200))
def test_equal_values_count_in_full_and_one_value_once(n):
    for rank in (effective_rank, stable_rank):
        assert rank(torch.full((n,), 0.3).double()) == pytest.approx(n)
        assert rank(torch.tensor([0.3, *[1e-12] * (n - 1)]).double()) == pytest.approx(1, rel=1e-6)


@given(st.integers(1, 20_000))
def test_points_are_few_different_and_reach_from_end_to_end(r):
    ranks = [row.rank for row in spectrum_points(torch.linspace(2, 1, r, dtype=torch.float64))]
    assert (ranks[0], ranks[-1]) == (1, r)
    assert ranks == sorted(set(ranks))
    assert len(ranks) <= MOST_POINTS
    steps = np.diff(np.log([rank for rank in ranks if rank > 30]))
    assert steps.size == 0 or steps.max() < 0.3  # no gap on the logarithmic axis


def test_a_zero_matrix_has_no_spectrum():
    nothing = decompose(torch.zeros(4, 5)).values
    assert (spectrum_points(nothing), effective_rank(nothing), stable_rank(nothing)) == ([], 0, 0)
