import numpy as np
import pytest
from pydantic import ValidationError
from scipy.integrate import trapezoid

from safespan.settings.verdict import SelectivityConfig, least_controls
from safespan.statistics.selectivity import Ends, Frontier, estimates, undefined_reason

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
        return area(front.useful, front.harmful) - np.mean(controls), np.std(controls, ddof=1)

    parallel, orthogonal, separation = estimates(fronts, ends(), SelectivityConfig(), 0)
    (p, p_sd), (o, o_sd) = s(fronts["parallel"]), s(fronts["orthogonal"])
    assert (parallel.value, orthogonal.value) == (pytest.approx(p), pytest.approx(o))
    assert (parallel.control_sd, orthogonal.control_sd) == (pytest.approx(p_sd), pytest.approx(o_sd))
    assert separation.value == pytest.approx((p - o) / 2)
    for estimate in (parallel, orthogonal, separation):
        assert estimate.low < estimate.value < estimate.high
    assert parallel.value > 0.15 > -0.15 > orthogonal.value
    assert separation.p_beyond < 0.01
    assert separation.p_within > 0.99


def test_an_edit_that_takes_harm_away_first_has_a_positive_d():
    rng = np.random.default_rng(2)
    edit, separation = estimates({"edit": frontier(rng, STEPS**4, STEPS)}, ends(), SelectivityConfig(), 0)
    assert separation.value == pytest.approx(-edit.value)
    assert separation.value > 0.15


def test_the_interval_of_a_control_covers_zero_about_as_often_as_it_says():
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        front = frontier(rng, STEPS + 0.01 * rng.standard_normal(), STEPS, draws=12, noise=0.3)
        own, _ = estimates({"edit": front}, ends(), SelectivityConfig(resamples=300), seed)
        covered += own.low <= 0 <= own.high
    # 90 % asked for; few draws make the bootstrap a little narrow. Below 42 of 60 has probability 1e-5 at 90 %.
    assert covered >= 42


def test_standard_errors_name_their_source():
    rng = np.random.default_rng(3)
    quiet = frontier(rng, STEPS, STEPS, noise=0.0)
    few = estimates({"edit": quiet}, ends(), SelectivityConfig(), 0)[0]
    assert few.sd_prompts == pytest.approx(0, abs=1e-9)
    # The mean of R areas resampled from R draws has the variance of the draws, over R.
    assert few.sd_controls == pytest.approx(few.control_sd * (5 / 6) ** 0.5 / 6**0.5, rel=0.15)


def test_a_missing_judgement_is_left_out_of_the_means():
    rng = np.random.default_rng(4)
    whole = frontier(rng, STEPS, STEPS, m=50)
    harmful = np.concatenate([whole.harmful, np.full((5, 3), np.nan)], 1)
    control = np.concatenate([whole.control_harmful, np.full((6, 5, 3), np.nan)], 2)
    holes = Frontier(whole.useful, harmful, whole.control_useful, control)
    estimate = estimates({"edit": holes}, ends(m=53), SelectivityConfig(), 0)[0]
    assert estimate.value == pytest.approx(estimates({"edit": whole}, ends(), SelectivityConfig(), 0)[0].value)


def test_constant_and_falling_outcomes_have_no_span():
    flat = Ends(np.zeros(9), np.zeros(9), np.zeros(9), np.ones(9))
    assert "useful prompts is the same" in undefined_reason(flat)
    rng = np.random.default_rng(5)
    noise = Ends(np.zeros(9), np.zeros(9), np.ones(9), rng.standard_normal(9) - 1)
    assert "harmful prompts beyond its interval" in undefined_reason(noise)
    assert "no useful outcomes" in undefined_reason(Ends(np.array([]), np.zeros(9), np.array([]), np.ones(9)))
    assert undefined_reason(ends()) == ""


def test_too_few_controls_for_the_confidence_are_refused():
    assert [least_controls(confidence) for confidence in (0.5, 0.9, 0.95, 0.99)] == [2, 5, 6, 8]
    with pytest.raises(ValidationError, match="4 random draws cannot carry 90% confidence: give at least 5"):
        SelectivityConfig(controls=4)
    with pytest.raises(ValidationError, match="at least 6"):
        SelectivityConfig(confidence=0.95)
