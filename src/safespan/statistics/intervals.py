"""Confidence intervals of rates."""

import math

from scipy.stats import binomtest


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % Wilson interval of a rate; NaN if n is 0."""
    if n == 0:
        return math.nan, math.nan
    interval = binomtest(successes, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)
