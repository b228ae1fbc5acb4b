"""Areas of ablations against closed forms and numerical integration, and their estimates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safespan.statistics.ablation import Curve, ablation_effect, capability_lost, harm_gained, is_measured
from safespan.statistics.frontier import ablation_area

ALIGNED = Curve(np.full((1, 40), 0.1), (np.full((1, 30), 1.0), np.full((1, 20), 2.0)))


def curve(lost, harm, seed=0, noise=0.0):
    """A curve with these mean losses of capability and these means of complying."""
    rng = np.random.default_rng(seed)

    def around(values, size):
        return np.array(values)[:, None] + noise * rng.standard_normal((len(values), size))

    rise = -np.log1p(-np.array(lost))
    return Curve(around(harm, 40), (around(1.0 + rise, 30), around(2.0 + rise, 20)))


@pytest.mark.parametrize(
    ("x", "h", "area"),
    [
        ([0.0], [1.0], 1.0),
        ([0.5], [1.0], 0.5),
        ([0.25], [1.0], 0.75),
        ([1.0], [1.0], 0.25),  # the line from (0, 0) to (1, 1), up to one half
        ([0.25, 0.25], [0.2, 0.8], 0.45),  # a vertical step has no area
        ([0.4, 0.1], [0.0, 1.0], 0.9),  # the running maximum stays at 1
        ([-0.3], [0.5], 0.5),  # capability that was gained counts as none lost
        ([0.1, 0.3, 0.7], [0.0, 0.0, 0.0], 0.0),
    ],
)
def test_the_area_of_few_points(x, h, area):
    assert float(ablation_area(np.array(x), np.array(h))) == pytest.approx(area)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8))
def test_the_area_is_the_integral_of_the_interpolated_maximum(points):
    x, h = np.array(sorted(points)).T
    x = x + 1e-6 * np.arange(len(x))  # no vertical steps, which a fine grid cannot resolve
    grid = np.linspace(0, 0.5, 20001)
    heights = np.interp(grid, [0, *x], [0, *np.maximum.accumulate(h)])
    assert float(ablation_area(x, h)) == pytest.approx(2 * np.trapezoid(heights, grid), abs=2e-4)


def test_capability_lost_and_harm_gained_are_those_of_the_definition():
    lost, harm = [0.0, 0.2, 0.6], [0.1, 0.55, 1.0]
    known = curve(lost, harm)
    np.testing.assert_allclose(capability_lost(known, ALIGNED), lost, atol=1e-12)
    np.testing.assert_allclose(harm_gained(known, ALIGNED, np.arange(40)), [0.0, 0.5, 1.0], atol=1e-12)


def test_capability_is_the_mean_over_all_right_answers():
    """30 useful and 20 general answers: each counts once, whichever kind it is of."""
    known = Curve(np.zeros((1, 40)), (np.full((1, 30), 1.5), np.full((1, 20), 2.0)))
    np.testing.assert_allclose(capability_lost(known, ALIGNED), [1 - np.exp(-0.5 * 30 / 50)])


def test_a_model_that_always_complies_has_no_harm_to_gain():
    always = Curve(np.ones((1, 40)), ALIGNED.right)
    assert not harm_gained(curve([0.1], [1.0]), always, np.arange(40)).any()


def test_a_curve_needs_three_different_weights_that_kept_half_of_the_capability():
    known = curve([0.1, 0.2, 0.3, 0.9], [0.0] * 4)
    assert is_measured(known, ALIGNED, ["a", "b", "c", "d"])
    assert not is_measured(known, ALIGNED, ["a", "b", "b", "d"])
    assert not is_measured(curve([0.1, 0.2, 0.6, 0.9], [0.0] * 4), ALIGNED, ["a", "b", "c", "d"])


def test_an_ablation_that_brings_harm_first_is_told_from_its_controls():
    own = curve([0.0, 0.1, 0.2], [0.6, 0.9, 1.0], noise=0.05)
    controls = [curve([0.0, 0.1, 0.2], [0.1, 0.1, 0.2], seed=seed, noise=0.05) for seed in range(1, 6)]
    effect = ablation_effect(own, controls, ALIGNED, 500, 0)

    def area(of):
        return float(ablation_area(capability_lost(of, ALIGNED), harm_gained(of, ALIGNED, np.arange(40))))

    beside = [area(control) for control in controls]
    assert effect.value == pytest.approx(area(own) - np.mean(beside))
    assert effect.own == pytest.approx(area(own))
    np.testing.assert_allclose(effect.controls, beside)
    assert (effect.statistic, effect.method, effect.prompts) == ("A", "", 20)
    assert np.mean(effect.resampled) == pytest.approx(effect.value, abs=0.02)
    assert effect.p_selective(0.15) < 0.01


def test_a_curve_of_more_points_stands_beside_those_of_fewer():
    own = curve([0.0, 0.1, 0.2, 0.3], [0.1] * 4)
    controls = [curve([0.0, 0.1, 0.2], [0.1] * 3), curve([0.0, 0.1, 0.2, 0.3, 0.4], [0.1] * 5)]
    assert ablation_effect(own, controls, ALIGNED, 100, 0).value == pytest.approx(0.0, abs=1e-12)


def test_the_base_model_alone_is_a_curve_of_one_point():
    """From (0, 0) up to (x, h), and constant behind it."""
    effect = ablation_effect(curve([0.2], [1.0]), [], ALIGNED, 200, 0)
    assert effect.value == pytest.approx(2 * (0.2 / 2 + 0.3))
    assert len(effect.controls) == 0
