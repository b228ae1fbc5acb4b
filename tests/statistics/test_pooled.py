"""Statistics over seeds, against SciPy and simulation."""

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from safespan.statistics.pooled import PooledEffect
from safespan.statistics.verdicts import INCONCLUSIVE, SELECTIVE, judge_family

VALUES = np.array([0.30, 0.42, 0.25, 0.38, 0.33])


def pooled(values=VALUES, error=0.02, prompts=10_000):
    return PooledEffect("D", np.array(values), np.full(len(values), error), prompts)


def test_the_interval_is_the_t_interval_of_the_mean():
    one = pooled()
    low, high = ttest_1samp(VALUES, 0.0).confidence_interval(0.9)
    half = one.half_width(0.05)
    assert (one.value - half, one.value + half) == (pytest.approx(low), pytest.approx(high))


def test_selective_is_the_t_test_against_the_margin():
    one = pooled()
    assert one.p_selective(0.15) == pytest.approx(ttest_1samp(VALUES, 0.15, alternative="greater").pvalue)
    mirrored = PooledEffect("D", -VALUES, one.errors, one.prompts)
    assert mirrored.p_selective(0.15) == pytest.approx(one.p_selective(0.15))


def test_tau_is_what_the_errors_within_seeds_leave():
    assert pooled(error=0.0).tau == pytest.approx(VALUES.std(ddof=1))
    assert pooled(error=1.0).tau == 0.0
    rng = np.random.default_rng(0)
    found = [
        pooled(0.3 + 0.08 * rng.standard_normal(20) + 0.05 * rng.standard_normal(20), error=0.05).tau
        for _ in range(400)
    ]
    assert np.mean(found) == pytest.approx(0.08, rel=0.06)


def test_seeds_that_are_all_alike_have_the_spread_that_prompts_can_show():
    assert pooled([0.2] * 5, prompts=50).sd == pytest.approx(0.01)


def test_an_undecided_recipe_says_how_many_seeds_would_decide():
    spread = np.array([0.0, 0.45, 0.1, 0.4, 0.2])
    verdict = judge_family({"own": [pooled(spread)]}, "harm", 0.15, 0.05)["own"].verdict
    assert verdict.verdict == INCONCLUSIVE
    distance, sd = spread.mean() - 0.15, spread.std(ddof=1)
    seeds = next(k for k in range(6, 1000) if t.isf(0.05, k - 1) * sd / k**0.5 < distance)
    assert f"about {seeds} seeds would decide" in verdict.reason
    assert judge_family({"own": [pooled()]}, "harm", 0.15, 0.05)["own"].verdict.verdict == SELECTIVE
    assert "too near the margin" in pooled([0.1, 0.2, 0.15, 0.14, 0.16]).needed(0.15, 0.05).text
