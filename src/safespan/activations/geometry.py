"""Overlap of the subspaces that two classes of prompts span in the residual stream (METHODS §4)."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float

from safespan.choices import check_shares
from safespan.overlap import overlap_curve
from safespan.subspaces import Spectrum, decompose

ENERGY_FRACTIONS = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""The paper's η for activations."""


def activation_overlap(
    useful: Float[torch.Tensor, "N d"],
    harmful: Float[torch.Tensor, "M d"],
    energies: Sequence[float] = ENERGY_FRACTIONS,
    centered: bool = False,
) -> list[dict[str, Any]]:
    """Mode subspace overlap of useful and harmful activations at one layer, for every energy fraction.

    Args:
        useful: N × d, a row per useful prompt.
        harmful: M × d, a row per harmful prompt.
        energies: η, each in (0, 1].
        centered: subtract each class's mean first. Without it a mean that both classes share fills the first
            direction by itself, and the overlap says little else.

    Returns:
        Rows of energy_fraction, k_x (useful), k_y (harmful), mso and mso_random = max(k) / d.

    Raises:
        ConfigError: an energy outside (0, 1].
    """
    check_shares("energy fraction", energies)
    points = overlap_curve(_spectrum(useful, centered), _spectrum(harmful, centered), energies)
    return [
        {
            "energy_fraction": point.energy_fraction,
            "k_x": point.k_x,
            "k_y": point.k_y,
            "mso": point.mso,
            "mso_random": point.mso_random,
        }
        for point in points
    ]


def _spectrum(activations: Float[torch.Tensor, "N d"], centered: bool) -> Spectrum:
    exact = activations.double()
    return decompose((exact - exact.mean(0) if centered else exact).T)
