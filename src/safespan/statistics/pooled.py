"""A statistic over several seeds of one recipe (METHODS §7)."""

from dataclasses import dataclass, field
from math import sqrt

import numpy as np
import scipy  # loads scipy.stats, a slow import, on first use
from jaxtyping import Float

from safespan.statistics.effects import Needed

LEAST_SEEDS, MOST_SEEDS = 5, 200
"""Seeds that a verdict about a recipe needs, and the most that are considered affordable."""


@dataclass(frozen=True)
class PooledEffect:
    """One statistic of a claim over seeds, each an independent run of the recipe.

    The mean over seeds, with the t-interval of k − 1 degrees of freedom. The design is balanced, so neither weights
    nor the variance between seeds are needed for it.

    Attributes:
        statistic: S, D, A or T.
        values: [k], of each seed.
        errors: [k], their standard errors within a seed.
        prompts: N of each seed.
    """

    statistic: str
    values: Float[np.ndarray, " k"] = field(repr=False)
    errors: Float[np.ndarray, " k"] = field(repr=False)
    prompts: int

    @property
    def value(self) -> float:
        """The mean over seeds."""
        return float(self.values.mean())

    @property
    def sd(self) -> float:
        """Standard deviation over seeds, at least 1 / (2N): finite prompts cannot show less."""
        return max(1 / (2 * self.prompts), float(self.values.std(ddof=1)))

    @property
    def tau(self) -> float:
        """Standard deviation between seeds, without what the errors within a seed explain."""
        return sqrt(max(0.0, float(self.values.var(ddof=1) - (self.errors**2).mean())))

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return self.sd / sqrt(len(self.values))

    def p_selective(self, margin: float) -> float:
        """p of the hypothesis that |mean| is no more than the margin; that it is 0 is part of that."""
        return float(scipy.stats.t.sf((abs(self.value) - margin) / self.error, len(self.values) - 1))

    def half_width(self, level: float) -> float:
        """t_{k − 1, 1 − level} SE."""
        return float(scipy.stats.t.isf(level, len(self.values) - 1) * self.error)

    def needed(self, margin: float, level: float) -> Needed:
        """How many seeds would decide: the fewest whose interval ends before the margin."""
        seeds = np.arange(len(self.values) + 1, MOST_SEEDS + 1)
        enough = scipy.stats.t.isf(level, seeds - 1) * self.sd / np.sqrt(seeds) < abs(abs(self.value) - margin)
        if not enough.any():
            return Needed("too near the margin for any affordable number of seeds")
        return Needed(f"about {seeds[enough.argmax()]} seeds would decide")
