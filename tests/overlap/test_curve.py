import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oracle import exact, mso
from safespan.overlap.curve import overlap_curve, random_overlap
from safespan.settings.analysis import UPDATE_ENERGIES
from safespan.subspaces import Spectrum, decompose

SIZES = st.integers(2, 20)


def gaussian(m, n, seed):
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40)
@given(SIZES, SIZES, SIZES, st.integers(0, 99))
def test_curve_agrees_with_lapack(m, n_x, n_y, seed):
    x, y = gaussian(m, n_x, seed), gaussian(m, n_y, seed + 100)
    for point in overlap_curve(decompose(x), decompose(y), UPDATE_ENERGIES):
        assert point.mso == pytest.approx(mso(exact(x), exact(y), point.energy_fraction), abs=1e-4)
        assert point.mso_random == max(point.k_x, point.k_y) / m
        assert -1e-9 <= point.mso <= 1 + 1e-9


@settings(max_examples=20)
@given(SIZES, SIZES, st.integers(0, 99))
def test_an_update_overlaps_itself_wholly_and_input_rotations_change_nothing(m, n, seed):
    x, y = gaussian(m, n, seed), gaussian(m, n, seed + 1)
    rotation = torch.linalg.qr(gaussian(n, n, seed + 2).double()).Q
    turned = decompose(x.double() @ rotation)
    for energy in (0.3, 0.9):
        [itself] = overlap_curve(decompose(x), turned, [energy])
        assert itself.mso == pytest.approx(1, abs=1e-6)
        [plain] = overlap_curve(decompose(x), decompose(y), [energy])
        [rotated] = overlap_curve(turned, decompose(y), [energy])
        assert plain.mso == pytest.approx(rotated.mso, abs=1e-6)


def test_independent_gaussians_overlap_by_chance():
    for point in overlap_curve(decompose(gaussian(200, 300, 0)), decompose(gaussian(200, 300, 1)), (0.2, 0.5, 0.9)):
        assert point.mso == pytest.approx(point.mso_random, abs=0.03)


@pytest.mark.parametrize(("m", "k_x", "k_y"), [(12, 3, 4), (12, 9, 8), (40, 20, 20), (64, 4, 1), (30, 2, 25)])
def test_chance_is_that_of_sampled_haar_subspaces(m, k_x, k_y):
    draws = 20_000
    gaussians = np.random.default_rng(0).standard_normal((draws, m, k_y))
    # By rotation invariance the fixed subspace may be that of the first coordinates.
    sampled = np.sort((np.linalg.qr(gaussians).Q[:, :k_x] ** 2).sum((1, 2)) / min(k_x, k_y))
    ranks = np.full(4, k_x), np.full(4, k_y)
    tails = np.array([0.5, 0.1, 0.05, 0.01])
    mean, deviation, p_value = random_overlap(*ranks, m, np.quantile(sampled, 1 - tails))
    assert mean[0] == max(k_x, k_y) / m
    assert sampled.mean() == pytest.approx(mean[0], abs=5 * sampled.std() / draws**0.5)
    assert sampled.std() == pytest.approx(deviation[0], rel=0.03)
    # Matched in two moments, and sampled: within a quarter where no line is among them.
    assert p_value == pytest.approx(tails, rel=0.25, abs=0.001)


@given(st.integers(2, 300), st.data())
def test_the_chance_of_a_line_is_exact(m, data):
    k, overlap = data.draw(st.integers(1, m - 1)), data.draw(st.floats(0.01, 0.99))
    expected = scipy.stats.beta.sf(overlap, k / 2, (m - k) / 2)
    for ranks in ((1, k), (k, 1)):
        _, _, p_value = random_overlap(*np.array(ranks)[:, None], m, np.array([overlap]))
        assert p_value == pytest.approx(expected, rel=1e-6, abs=1e-12)


@given(st.integers(1, 40), st.data())
def test_the_whole_space_meets_every_subspace_for_certain(m, data):
    k = data.draw(st.integers(1, m))
    chance = random_overlap(np.array([m]), np.array([k]), m, np.ones(1))
    assert [value.item() for value in chance] == [1.0, 0.0, 1.0]


@settings(max_examples=40)
@given(SIZES, SIZES, SIZES, st.integers(0, 99))
def test_principal_angles_are_scipys(m, n_x, n_y, seed):
    x, y = (decompose(gaussian(m, n, seed + i)) for i, n in enumerate((n_x, n_y)))
    for point in overlap_curve(x, y, (0.2, 0.7, 1.0)):
        angles = np.degrees(scipy.linalg.subspace_angles(exact(x.left[:, : point.k_x]), exact(y.left[:, : point.k_y])))
        assert point.angle_min == pytest.approx(angles.min(), abs=1e-4)
        assert point.angle_median == pytest.approx(np.median(angles), abs=1e-4)


@given(st.floats(-5.5, 0))
def test_small_angles_keep_their_digits(exponent):
    angle = 10**exponent
    turned = torch.tensor([[math.cos(angle)], [math.sin(angle)], [0]], dtype=torch.float64)
    x = Spectrum(torch.eye(3)[:, :1], torch.ones(1).double())
    [point] = overlap_curve(x, Spectrum(turned.float(), torch.ones(1).double()), [1.0])
    assert math.radians(point.angle_min) == pytest.approx(angle, rel=2e-7 / angle)


def test_angles_are_left_out_where_they_cost_too_much():
    both = [Spectrum(torch.eye(600)[:, start : start + k], torch.ones(k).double()) for start, k in ((0, 257), (0, 300))]
    [point] = overlap_curve(*both, [1.0])
    assert (point.mso, math.isnan(point.angle_min), math.isnan(point.angle_median)) == (1, True, True)
    [point] = overlap_curve(both[1], Spectrum(both[0].left[:, :256], torch.ones(256).double()), [1.0])
    assert point.angle_median == pytest.approx(0, abs=1e-4)
