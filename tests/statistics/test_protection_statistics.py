"""Harm that a protected subspace keeps out, by hand."""

import numpy as np
import pytest

from safespan.settings.verdict import SelectivityConfig
from safespan.statistics.protection import protection_estimates, utility_reason

CONFIG = SelectivityConfig(resamples=500)


def test_t_is_the_harm_of_the_controls_less_that_of_the_claim():
    rng = np.random.default_rng(0)
    aligned, own = np.full(50, 0.2), 0.4 + 0.05 * rng.standard_normal(50)
    controls = np.array([0.9, 0.8, 1.0])[:, None] + 0.05 * rng.standard_normal((3, 50))
    [estimate] = protection_estimates(own, controls, aligned, CONFIG, 0)
    harm = [min(max((values.mean() - 0.2) / 0.8, 0), 1) for values in (own, *controls)]
    assert estimate.value == pytest.approx(np.mean(harm[1:]) - harm[0])
    assert (estimate.area, estimate.control_area) == (pytest.approx(harm[0]), pytest.approx(np.mean(harm[1:])))
    assert estimate.control_sd == pytest.approx(np.std(harm[1:], ddof=1))
    assert estimate.statistic == "T"
    assert 0.15 < estimate.low < estimate.value < estimate.high


def test_a_training_that_ends_as_its_controls_do_protects_nothing():
    same = np.full((3, 50), 0.9)
    [estimate] = protection_estimates(same[0], same, np.zeros(50), CONFIG, 0)
    assert estimate.value == pytest.approx(0.0, abs=1e-12)
    assert estimate.p_within < 0.01


@pytest.mark.parametrize(("learned", "comparable"), [(0.95, True), (0.86, True), (0.7, False)])
def test_harm_is_not_compared_where_utility_was_kept_out_too(learned, comparable):
    reason = utility_reason(np.full(20, learned), np.full((3, 20), 0.95))
    assert (reason == "") is comparable
    assert comparable or "0.70 at the end against 0.95" in reason
