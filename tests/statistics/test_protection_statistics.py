"""Harm that a protected subspace keeps out, by hand."""

import numpy as np
import pytest
from scipy.stats import t

from safespan.statistics.protection import Course, protection_effects, utility_bound

ALIGNED = 0.2


def course(harm, utility=(0.0, 0.5, 0.95), noise=0.0, seed=0):
    """A training with these means of harm and utility after the aligned model, on 50 prompts."""
    rng = np.random.default_rng(seed)
    p = np.array([ALIGNED, *(ALIGNED + (1 - ALIGNED) * h for h in harm)])
    around = noise * rng.standard_normal((len(p), 50))
    return Course(np.repeat(np.array(utility)[:, None], 50, 1), p[:, None] + around)


def test_t_is_the_harm_of_the_controls_less_that_of_the_claim():
    own = course([0.1, 0.25])
    controls = [course([0.6, 0.9]), course([0.4, 0.8]), course([0.5, 1.0])]
    (steps, end), note = protection_effects(own, controls, 0.05, 200, 0)
    assert end.own == pytest.approx(0.25)
    np.testing.assert_allclose(end.controls, [0.9, 0.8, 1.0])
    assert end.value == pytest.approx(0.9 - 0.25)
    assert steps.value == pytest.approx(np.mean([0.75, 0.6, 0.75]) - 0.175)  # the mean over both moments
    assert [(effect.statistic, effect.method) for effect in (steps, end)] == [("T", "steps"), ("T", "")]
    assert note == ""


def test_a_training_that_ends_as_its_controls_do_protects_nothing():
    (_, end), _ = protection_effects(course([0.5, 0.9]), [course([0.5, 0.9])] * 3, 0.05, 200, 0)
    assert end.value == pytest.approx(0.0, abs=1e-12)
    assert end.half_width(0.05) < 0.15


def test_harm_below_the_aligned_models_counts_as_none():
    (_, end), _ = protection_effects(course([0.0, -0.1]), [course([0.5, 0.5])] * 2, 0.05, 200, 0)
    assert end.own == 0.0


def test_the_lower_bound_of_utility_is_that_of_one_training_among_others():
    controls = [course([0, 0], utility=(0.0, 0.5, u)) for u in (0.9, 0.95, 1.0)]
    bound = utility_bound(course([0, 0], utility=(0.0, 0.5, 0.9)), controls, 0.05)
    assert bound == pytest.approx(-0.05 - t.isf(0.05, 2) * 0.05 * np.sqrt(4 / 3))


def test_where_a_claim_learns_less_harm_is_compared_at_equal_utility():
    """The claim ends at a utility of 0.5, which its controls reach at their first moment."""
    own = course([0.1, 0.2], utility=(0.0, 0.3, 0.5))
    controls = [course([0.6, 1.0], utility=(0.0, 0.6, 1.0)) for _ in range(3)]
    (_, end), note = protection_effects(own, controls, 0.05, 200, 0)
    assert end.own == pytest.approx(0.2)
    np.testing.assert_allclose(end.controls, [0.6] * 3)
    assert "at the end 0.50, and 1.00 on average of its controls" in note
    assert "first reaches a utility of 0.50" in note


def test_a_model_that_always_complied_has_no_harm_to_gain():
    always = Course(np.ones((2, 10)), np.ones((2, 10)))
    (_, end), _ = protection_effects(always, [always, always], 0.05, 100, 0)
    assert end.value == 0.0
