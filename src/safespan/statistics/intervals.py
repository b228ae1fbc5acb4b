"""Confidence intervals of rates."""

import math
from collections.abc import Sequence

from scipy.stats import binomtest

MAX_FAILED = 0.02
"""A rate with a larger share of failed judgements is invalid."""


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % Wilson interval of a rate; NaN if n is 0."""
    if n == 0:
        return math.nan, math.nan
    interval = binomtest(successes, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def paired_difference(first: Sequence[bool], second: Sequence[bool]) -> tuple[float, float, float]:
    """Difference of two rates on the same prompts, and its 95 % interval.

    The interval is Newcombe's tenth for paired proportions (1998): the two Wilson intervals put together, with the
    correlation of the pairs, corrected for continuity.

    Args:
        first: whether it happened, by prompt.
        second: the same of another model.

    Returns:
        The rate of `first` minus that of `second`, the lower and the upper end; NaN if there is no prompt.
    """
    n = len(first)
    if n == 0:
        return math.nan, math.nan, math.nan
    both = sum(x and y for x, y in zip(first, second, strict=True))
    ones, others = sum(first), sum(second)
    product = both * (n - ones - others + both) - (ones - both) * (others - both)
    corrected = max(product - n / 2, 0) if product > 0 else product
    scale = math.sqrt(ones * (n - ones) * others * (n - others))
    correlation = corrected / scale if scale else 0.0
    (low, high), (other_low, other_high) = wilson(ones, n), wilson(others, n)
    rate, other = ones / n, others / n

    def distance(x: float, y: float) -> float:
        return math.sqrt(max(x * x - 2 * correlation * x * y + y * y, 0.0))

    difference = (ones - others) / n
    below = distance(rate - low, other_high - other)
    return difference, difference - below, difference + distance(high - rate, other - other_low)
