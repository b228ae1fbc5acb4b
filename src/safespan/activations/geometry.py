"""Overlap of the subspaces that two classes of prompts span in the residual stream (METHODS §4)."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float

from safespan.activations.resampling import Resampling, resampled_overlap
from safespan.choices import check_shares
from safespan.overlap import overlap_curve
from safespan.subspaces import decompose

ENERGY_FRACTIONS = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""The paper's η for activations."""


def activation_overlap(
    useful: Float[torch.Tensor, "N d"],
    harmful: Float[torch.Tensor, "M d"],
    energies: Sequence[float] = ENERGY_FRACTIONS,
    centered: bool = False,
    resampling: Resampling | None = None,
) -> list[dict[str, Any]]:
    """Mode subspace overlap of useful and harmful activations at one layer, for every energy fraction.

    Args:
        useful: N × d, a row per useful prompt.
        harmful: M × d, a row per harmful prompt.
        energies: η, each in (0, 1].
        centered: subtract each class's mean first. Without it a mean that both classes share fills the first
            direction by itself, and the overlap says little else.
        resampling: how often prompts are drawn anew for `p_value`, `mso_low` and `mso_high`, which are NaN if None.

    Returns:
        Rows of energy_fraction, k_x (useful), k_y (harmful), mso, mso_random = max(k) / d, a 95 % bootstrap interval
        mso_low to mso_high over prompts, and p_value, which is small where the classes overlap less than two random
        groups of the same prompts (`resampled_overlap`).

    Raises:
        ConfigError: an energy outside (0, 1].
    """
    check_shares("energy fraction", energies)
    x, y = (rows.double() - rows.double().mean(0) if centered else rows.double() for rows in (useful, harmful))
    points = overlap_curve(decompose(x.T), decompose(y.T), energies)
    drawn = resampled_overlap(x, y, energies, centered, resampling or Resampling(0, 0))
    return [
        {
            "energy_fraction": point.energy_fraction,
            "k_x": point.k_x,
            "k_y": point.k_y,
            "mso": point.mso,
            "mso_random": point.mso_random,
            "mso_low": float(low),
            "mso_high": float(high),
            "p_value": float(p_value),
        }
        for point, low, high, p_value in zip(points, *drawn, strict=True)
    ]
