import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from safespan.statistics.frontier import frontier_area, progress

shares = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def test_progress_is_zero_at_the_aligned_and_one_at_the_tuned_model_and_clipped():
    values = np.array([2.0, 1.0, 0.0, 3.0, -1.0])
    np.testing.assert_allclose(progress(values, np.array(2.0), np.array(0.0)), [0, 0.5, 1, 0, 1])


def test_progress_between_equal_ends_is_no_number():
    assert np.isnan(progress(np.array([1.0]), np.array(1.0), np.array(1.0))).all()


def test_area_of_the_diagonal_the_corners_and_a_step():
    diagonal = np.linspace(0, 1, 5)
    assert frontier_area(diagonal, diagonal) == pytest.approx(0.5)
    assert frontier_area(np.array([0.0]), np.array([1.0])) == pytest.approx(1.0)
    assert frontier_area(np.array([1.0]), np.array([0.0])) == pytest.approx(0.0)


@given(shares, st.data())
def test_area_of_a_rising_curve_is_scipys_trapezoid(u, data):
    h = data.draw(st.lists(st.floats(0, 1), min_size=len(u), max_size=len(u)))
    u = sorted(u)
    expected = trapezoid([0, *h, 1], [0, *u, 1])
    assert frontier_area(np.array(u), np.array(h)) == pytest.approx(expected, abs=1e-9)


@given(shares, st.data())
def test_area_is_a_share_and_ground_covered_once_counts_once(u, data):
    h = data.draw(st.lists(st.floats(0, 1), min_size=len(u), max_size=len(u)))
    area = float(frontier_area(np.array(u), np.array(h)))
    assert -1e-9 <= area <= 1 + 1e-9
    # A point that falls back to u = 0 takes no ground that was not taken before.
    assert frontier_area(np.array([0.5, 0.0]), np.array([0.5, 0.5])) == pytest.approx(0.125 + 0.375)


def test_curves_side_by_side_are_each_their_own():
    rng = np.random.default_rng(0)
    u, h = rng.random((2, 3, 4, 6))
    together = frontier_area(u, h)
    assert together.shape == (3, 4)
    assert together[2, 1] == pytest.approx(float(frontier_area(u[2, 1], h[2, 1])))
