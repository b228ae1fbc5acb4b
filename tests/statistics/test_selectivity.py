import numpy as np
import pytest
from scipy.integrate import trapezoid

from safespan.statistics.selectivity import Ends, Frontier, selectivity_effects, undefined_reason

STEPS = np.linspace(0.1, 0.9, 5)


def ends(n=60, m=50):
    return Ends(np.zeros(n), np.zeros(m), np.ones(n), np.ones(m))


def noisy(rng, means, prompts, noise):
    return np.clip(np.asarray(means)[..., None] + noise * rng.standard_normal((*np.shape(means), prompts)), -1, 2)


def frontier(rng, own_h, control_h, draws=6, n=60, m=50, noise=0.02):
    """u rises evenly; h of the hypothesis and of its controls as given."""
    useful = noisy(rng, STEPS, n, noise)
    controls = np.stack([control_h + 0.01 * rng.standard_normal() for _ in range(draws)])
    return Frontier(
        useful,
        noisy(rng, own_h, m, noise),
        np.stack([noisy(rng, STEPS, n, noise) for _ in range(draws)]),
        noisy(rng, controls, m, noise),
    )


def test_s_and_d_are_differences_of_trapezoids():
    rng = np.random.default_rng(1)
    fronts = {"parallel": frontier(rng, STEPS**0.3, STEPS), "orthogonal": frontier(rng, STEPS**3, STEPS)}

    def area(useful, harmful):
        u, h = (np.clip(values.mean(-1), 0, 1) for values in (useful, harmful))
        assert (np.diff(u) > 0).all()
        return trapezoid([0, *h, 1], [0, *u, 1])

    def s(front):
        controls = [area(u, h) for u, h in zip(front.control_useful, front.control_harmful, strict=True)]
        return area(front.useful, front.harmful), np.array(controls)

    parallel, orthogonal, separation = selectivity_effects(fronts, ends(), 500, 0)
    (p, p_controls), (o, o_controls) = s(fronts["parallel"]), s(fronts["orthogonal"])
    assert (parallel.own, orthogonal.own) == (pytest.approx(p), pytest.approx(o))
    np.testing.assert_allclose(parallel.controls, p_controls)
    np.testing.assert_allclose(orthogonal.controls, o_controls)
    assert separation.value == pytest.approx((p - p_controls.mean() - o + o_controls.mean()) / 2)
    np.testing.assert_allclose(separation.controls, (p_controls - o_controls) / 2)  # of one draw, both methods
    assert [effect.statistic for effect in (parallel, orthogonal, separation)] == ["S", "S", "D"]
    assert {effect.prompts for effect in (parallel, orthogonal, separation)} == {50}
    assert parallel.value > 0.15 > -0.15 > orthogonal.value


def test_an_edit_that_takes_harm_away_first_has_a_positive_d():
    rng = np.random.default_rng(2)
    edit, separation = selectivity_effects({"edit": frontier(rng, STEPS**4, STEPS)}, ends(), 500, 0)
    assert separation.value == pytest.approx(-edit.value)
    assert separation.value > 0.15


def test_the_error_from_prompts_is_that_of_other_samples_of_prompts():
    """The bootstrap of one sample against the spread over many samples of a population of prompts."""
    rng = np.random.default_rng(3)
    population = frontier(rng, STEPS**0.5, STEPS, n=4000, m=4000, noise=0.4)

    def sample(size=200):
        useful, harmful = rng.integers(4000, size=(2, size))
        return Frontier(
            population.useful[:, useful],
            population.harmful[:, harmful],
            population.control_useful[..., useful],
            population.control_harmful[..., harmful],
        )

    values = [selectivity_effects({"edit": sample()}, ends(200, 200), 1, 0)[0].value for _ in range(300)]
    own = [selectivity_effects({"edit": sample()}, ends(200, 200), 400, 0)[0].sd_prompts for _ in range(5)]
    assert np.mean(own) == pytest.approx(np.std(values, ddof=1), rel=0.2)


def test_a_missing_judgement_is_left_out_of_the_means():
    rng = np.random.default_rng(4)
    whole = frontier(rng, STEPS, STEPS, m=50)
    harmful = np.concatenate([whole.harmful, np.full((5, 3), np.nan)], 1)
    control = np.concatenate([whole.control_harmful, np.full((6, 5, 3), np.nan)], 2)
    holes = Frontier(whole.useful, harmful, whole.control_useful, control)
    effect = selectivity_effects({"edit": holes}, ends(m=53), 100, 0)[0]
    assert effect.value == pytest.approx(selectivity_effects({"edit": whole}, ends(), 100, 0)[0].value)


def test_constant_and_falling_outcomes_have_no_span():
    flat = Ends(np.zeros(9), np.zeros(9), np.zeros(9), np.ones(9))
    assert "useful prompts is the same" in undefined_reason(flat)
    rng = np.random.default_rng(5)
    noise = Ends(np.zeros(9), np.zeros(9), np.ones(9), rng.standard_normal(9) - 1)
    assert "harmful prompts beyond its interval" in undefined_reason(noise)
    assert "no useful outcomes" in undefined_reason(Ends(np.array([]), np.zeros(9), np.array([]), np.ones(9)))
    assert undefined_reason(ends()) == ""
