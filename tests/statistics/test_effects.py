"""Standard errors, p-values and intervals of an effect, against SciPy, closed forms and simulation."""

import numpy as np
import pytest
from scipy.stats import norm, t, ttest_1samp

from safespan.statistics.effects import Effect, relative


def effect(own=0.4, controls=(0.1, 0.2, 0.3, 0.25), statistic="D", sd_prompts=0.02, prompts=100, seed=0):
    """An effect whose resamples have exactly this standard deviation."""
    drawn = np.random.default_rng(seed).standard_normal(400)
    drawn = sd_prompts * (drawn - drawn.mean()) / drawn.std(ddof=1)
    value = own - np.mean(controls) if len(controls) else own
    return Effect(statistic, "", own, np.array(controls, float), value + drawn, prompts)


def test_the_value_is_the_claim_less_the_mean_of_its_controls_and_of_a_training_the_reverse():
    assert effect().value == pytest.approx(0.4 - 0.2125)
    assert effect(statistic="T").value == pytest.approx(0.2125 - 0.4)


def test_the_null_is_that_the_claim_is_one_more_draw():
    """The t-test of one new observation against R others, by the two-sample formula with n = 1."""
    controls = np.array([0.1, 0.2, 0.3, 0.25])
    one = effect(controls=controls)
    statistic = (0.4 - controls.mean()) / (controls.std(ddof=1) * np.sqrt(1 / 4 + 1 / 1))
    assert one.p_null() == pytest.approx(t.sf(statistic, 3))


def test_without_error_of_prompts_the_interval_is_that_of_the_mean_of_the_controls():
    controls = np.array([0.1, 0.2, 0.3, 0.25])
    one = effect(controls=controls, sd_prompts=0.0)
    low, high = ttest_1samp(controls, 0.0).confidence_interval(0.9)
    assert one.freedom == pytest.approx(3)
    half = one.half_width(0.05)
    assert (one.value - half, one.value + half) == (pytest.approx(0.4 - high), pytest.approx(0.4 - low))


def test_with_little_spread_of_controls_the_interval_is_normal():
    one = effect(controls=[0.2, 0.2, 0.2, 0.2], sd_prompts=0.5, prompts=10_000)
    assert one.half_width(0.05) == pytest.approx(norm.isf(0.05) * 0.5, rel=1e-3)
    assert one.p_margin(0.15) == pytest.approx(norm.sf((0.2 - 0.15) / 0.5), rel=1e-3)


def test_controls_that_are_all_alike_have_the_spread_that_prompts_can_show():
    one = effect(controls=[0.2] * 5, prompts=50)
    assert one.control_sd == pytest.approx(0, abs=1e-12)
    assert one.spread == pytest.approx(0.01)
    assert one.p_null() > 0


def test_a_training_is_one_run_as_each_control_is():
    controls = np.array([0.9, 1.0, 0.8])
    one = effect(0.1, controls, statistic="T")
    assert one.error == pytest.approx(controls.std(ddof=1) * np.sqrt(4 / 3))
    assert one.freedom == 2
    assert one.p_null() == pytest.approx(t.sf(0.8 / one.error, 2))


def test_a_positive_control_without_controls_has_the_error_of_its_prompts():
    one = effect(0.8, [], statistic="A", sd_prompts=0.03, prompts=40)
    assert one.value == 0.8
    assert one.error == pytest.approx(np.hypot(0.03, 1 / 80))
    assert one.freedom == 39


def test_a_claim_is_selective_only_where_both_tests_say_so():
    tight = effect(0.22, [0.2, 0.2001, 0.1999, 0.2], sd_prompts=1e-4)  # far from chance, and within the margin
    assert tight.p_null() < 0.05 < tight.p_selective(0.15)
    wide = effect(0.9, [0.0, 0.9, 0.1, 0.2], sd_prompts=1e-4)  # beyond the margin, and within the spread of draws
    assert wide.p_null() > 0.05
    assert wide.p_selective(0.15) >= wide.p_null()


def simulated(rng, true, sd_controls, sd_prompts, draws):
    """An effect as a run would find it: own draws of controls, and one sample of prompts."""
    controls = 0.3 + sd_controls * rng.standard_normal(draws)
    own = 0.3 + true + sd_prompts * rng.standard_normal()
    drawn = own - controls.mean() + sd_prompts * rng.standard_normal(300)
    return Effect("D", "", own, controls, drawn, 10_000)


@pytest.mark.parametrize(("sd_controls", "sd_prompts"), [(0.05, 0.001), (0.05, 0.02), (0.01, 0.03)])
def test_an_interval_covers_the_truth_as_often_as_it_says(sd_controls, sd_prompts):
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(2000):
        one = simulated(rng, 0.2, sd_controls, sd_prompts, 8)
        covered += abs(one.value - 0.2) <= one.half_width(0.05)
    assert abs(covered / 2000 - 0.9) < 0.025  # three standard errors of the simulation, and what Satterthwaite is off


def test_a_random_draw_passes_for_a_claim_no_more_often_than_it_may():
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(2000):
        controls = 0.3 + 0.05 * rng.standard_normal(8)
        own = 0.3 + 0.05 * rng.standard_normal()
        one = Effect("D", "", own, controls, own - controls.mean() + 0.001 * rng.standard_normal(300), 10_000)
        found += one.p_null() < 0.05
    assert abs(found / 2000 - 0.1) < 0.03  # 5 % on each side


@pytest.mark.parametrize(("value", "sd_prompts"), [(0.15, 0.05), (0.22, 0.03), (0.1, 0.03), (0.3, 0.05)])
def test_the_chance_to_decide_is_that_of_runs_that_go_on(value, sd_prompts):
    """Of 100 prompts the first 40 have this mean, and the truth is as uncertain as that leaves it."""
    one = effect(value, [0.0, 1e-9, -1e-9, 0.0], sd_prompts=sd_prompts, prompts=40)
    rng = np.random.default_rng(0)
    sd = np.hypot(sd_prompts, one.spread / 2) * 40**0.5  # of one prompt, controls taken for prompts
    truth = value + sd / 40**0.5 * rng.standard_normal(20_000)
    means = (40 * value + 60 * (truth + sd / 60**0.5 * rng.standard_normal(20_000))) / 100
    half = norm.isf(0.05) * sd / 100**0.5
    decided = (abs(means) + half < 0.15) | (abs(means) - half > 0.15)
    assert one.chance_to_decide(0.15, 0.05, 10, 100) == pytest.approx(decided.mean(), abs=0.01)


def test_the_relative_effect_has_the_limits_of_fiellers_quadratic():
    a, b = effect(0.5, seed=1), effect(0.9, (0.18, 0.2, 0.22, 0.2), seed=2)
    ratio, low, high = relative(a, b, 0.05)
    assert ratio == pytest.approx(a.value / b.value)
    c = np.cov(a.resampled, b.resampled)[0, 1]
    square = t.isf(0.05, min(a.freedom, b.freedom)) ** 2
    roots = np.roots(
        [
            b.value**2 - square * b.error**2,
            -2 * (a.value * b.value - square * c),
            a.value**2 - square * a.error**2,
        ]
    )
    assert (low, high) == (pytest.approx(min(roots)), pytest.approx(max(roots)))


def test_no_effect_is_given_relative_to_an_uncertain_positive_control():
    weak = effect(0.3, (0.1, 0.2, 0.3, 0.25), sd_prompts=0.2)
    assert relative(effect(), weak, 0.05) is None
