"""A statistic of a claim beside its random controls: its standard error, p-values and intervals (METHODS §7)."""

from dataclasses import dataclass, field
from math import ceil, isfinite, isnan, nan, sqrt

import numpy as np
import scipy  # loads scipy.stats, a slow import, on first use
from jaxtyping import Float

SCORE, SEPARATION, ABLATION, TRAINING = "S", "D", "A", "T"
"""The statistics: S of one method of the update test; D, A and T decide the update, ablation and training test."""

DECIDING = {"update": SEPARATION, "ablation": ABLATION, "training": TRAINING}
"""Test -> the statistic that decides."""

_MOST_UNCERTAIN = 0.1
"""t² SE²/D² of a positive control, above which no effect is given relative to it: Fieller's interval would be wide."""

MOST, MOST_DRAWS = 100_000, 100
"""Largest numbers of prompts and of draws of controls that are considered affordable: each draw is asked as a claim."""


@dataclass(frozen=True)
class Needed:
    """What would decide an inconclusive verdict: in words, and in numbers where they are known."""

    text: str
    prompts: int | None = None
    controls: int | None = None


@dataclass(frozen=True)
class Effect:
    """One statistic of a claim beside its random controls.

    Attributes:
        statistic: one of those above.
        method: of S: parallel, orthogonal or edit; of T over all steps: `steps`; else empty.
        own: the figure of the claim: an area, of D half the difference of two, of T harm.
        controls: [R], the same of its controls; empty for a positive control that has none.
        resampled: [B], the value under resamples of the prompts, controls held fixed.
        prompts: N, the number of prompts of the kind that has fewer.
    """

    statistic: str
    method: str
    own: float
    controls: Float[np.ndarray, " r"] = field(repr=False)
    resampled: Float[np.ndarray, " b"] = field(repr=False)
    prompts: int

    @property
    def value(self) -> float:
        """The claim less the mean of its controls; of T the mean of the controls less the claim."""
        difference = self.own - self.control_mean
        return -difference if self.statistic == TRAINING else difference

    @property
    def control_mean(self) -> float:
        """Mean of the controls; 0 without controls."""
        return float(self.controls.mean()) if len(self.controls) else 0.0

    @property
    def control_sd(self) -> float:
        """s: standard deviation over the draws of controls, as measured; NaN without controls."""
        return float(self.controls.std(ddof=1)) if len(self.controls) > 1 else nan

    @property
    def spread(self) -> float:
        """s, at least 1 / (2N): finite prompts cannot show less."""
        return max(1 / (2 * self.prompts), 0.0 if isnan(self.control_sd) else self.control_sd)

    @property
    def sd_prompts(self) -> float:
        """Standard error from the choice of prompts, controls held fixed."""
        return float(np.nanstd(self.resampled, ddof=1))

    @property
    def error(self) -> float:
        """SE of the value: √(s²/R + SE_prompts²); of T s √(1 + 1/R), the claim being one training as well."""
        draws = max(1, len(self.controls))
        if self.statistic == TRAINING:
            return self.spread * sqrt(1 + 1 / draws)
        return sqrt(self.spread**2 / draws + self.sd_prompts**2)

    @property
    def freedom(self) -> float:
        """ν: degrees of freedom of SE, by Satterthwaite; N − 1 without controls."""
        draws = len(self.controls)
        if not draws:
            return self.prompts - 1
        if self.statistic == TRAINING:
            return draws - 1
        return float(self.error**4 / ((self.spread**2 / draws) ** 2 / (draws - 1)))

    def p_null(self) -> float:
        """p of the hypothesis that the claim is one more random draw; without controls that it is 0."""
        draws = len(self.controls)
        if not draws:
            return float(scipy.stats.t.sf(abs(self.value) / self.error, self.freedom))
        return float(scipy.stats.t.sf(abs(self.value) / (self.spread * sqrt(1 + 1 / draws)), draws - 1))

    def p_margin(self, margin: float) -> float:
        """p of the hypothesis that |value| is no more than the margin."""
        return float(scipy.stats.t.sf((abs(self.value) - margin) / self.error, self.freedom))

    def p_selective(self, margin: float) -> float:
        """p of both hypotheses, the larger one."""
        return max(self.p_null(), self.p_margin(margin))

    def half_width(self, level: float) -> float:
        """t_{ν, 1 − level} SE: half of the interval that has a probability of `level` on each side."""
        return float(scipy.stats.t.isf(level, self.freedom) * self.error)

    def chance_to_decide(self, margin: float, level: float, controls: int, prompts: int) -> float:
        """The chance that a later look decides, as far as can be foreseen from this one.

        The true effect is normal around today's value with today's error, and what is asked until then adds its own.
        The value then is normal around today's, with the variance that will have been averaged out.

        Args:
            margin: δ.
            level: of the interval on each side.
            controls: draws at the later look.
            prompts: N at the later look.
        """
        then = sqrt(self.spread**2 / controls + self.sd_prompts**2 * self.prompts / prompts)
        moves = sqrt(max(self.error**2 - then**2, 1e-12))
        z = float(scipy.stats.norm.isf(level)) * then
        ends = np.array([-margin - z, -margin + z, margin - z, margin + z])
        below, low, high, beyond = scipy.stats.norm.cdf((ends - self.value) / moves)
        return float(below + max(high - low, 0.0) + 1 - beyond)

    def needed(self, margin: float, level: float) -> "Needed":
        """What would decide, where standard errors fall with the root of the numbers of prompts and of controls.

        Args:
            margin: δ.
            level: of the interval on each side.
        """
        z = float(scipy.stats.norm.isf(level))
        distance, draws = abs(abs(self.value) - margin), len(self.controls)
        if draws and margin < abs(self.value) <= z * self.spread:
            return Needed(
                f"random controls differ as much from one another (standard deviation {self.spread:.2f}), whatever "
                "the number of controls"
            )
        if draws and self.p_margin(margin) < level and (controls := self._draws_beyond(abs(self.value), level)):
            return Needed(
                f"beyond the margin, and not yet beyond what {draws} random controls differ by (standard deviation "
                f"{self.spread:.2f}): about {controls} controls would decide",
                controls=controls,
            )
        if self.statistic == TRAINING:
            controls = self._draws_beyond(distance, level)
            if controls is None:
                return Needed("one training of each claim cannot decide, other seeds could")
            return Needed(f"about {controls} controls would decide", controls=controls)
        factor = np.inf
        if distance:
            factor = max((z * self.error / distance) ** 2, 1.1)
            t = float(scipy.stats.t.isf(level, max(1.0, self.freedom * factor)))  # degrees of freedom grow with both
            factor = max((t * self.error / distance) ** 2, 1.1)
        if factor * self.prompts > MOST or factor * draws > MOST_DRAWS:
            most = f"{MOST_DRAWS} controls" if draws else f"{MOST:,} prompts of each kind"
            return Needed(f"a decision is out of reach: it would take more than {most}")
        prompts, controls = ceil(factor * self.prompts), ceil(factor * draws) or None
        beside = f" and {controls} controls" if controls else ""
        return Needed(f"about {prompts} prompts of each kind{beside} would decide", prompts, controls)

    def _draws_beyond(self, size: float, level: float) -> int | None:
        """The fewest draws R, more than there are, for which t_{R−1} s √(1 + 1/R) is less than a size; None if none."""
        more = np.arange(len(self.controls) + 1, MOST_DRAWS + 1)
        enough = scipy.stats.t.isf(level, more - 1) * self.spread * np.sqrt(1 + 1 / more) < size
        return int(more[enough.argmax()]) if enough.any() else None


def relative(effect: Effect, positive: Effect, level: float) -> tuple[float, float, float] | None:
    """An effect as a multiple of the positive control's, with Fieller's interval; None where the control is uncertain.

    Args:
        effect: of a claim.
        positive: of the positive control, with the same resamples of prompts.
        level: probability outside on each side.
    """
    a, b = effect.value, positive.value
    covariance = float(np.cov(effect.resampled, positive.resampled)[0, 1])
    va, vb = effect.error**2, positive.error**2
    t = float(scipy.stats.t.isf(level, min(effect.freedom, positive.freedom)))
    g = t**2 * vb / b**2 if b else np.inf
    if not isfinite(g) or g >= _MOST_UNCERTAIN:
        return None
    ratio = a / b
    centre = (ratio - g * covariance / vb) / (1 - g)
    inner = va - 2 * ratio * covariance + ratio**2 * vb - g * (va - covariance**2 / vb)
    half = t / abs(b) / (1 - g) * sqrt(max(inner, 0.0))
    return ratio, centre - half, centre + half
