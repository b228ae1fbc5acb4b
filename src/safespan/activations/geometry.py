"""Overlap of the subspaces that two classes of prompts span in the residual stream (METHODS §4)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float

from safespan.activations.resampling import Resampling, resampled_overlap
from safespan.overlap.curve import overlap_curve
from safespan.results.tables import ActivationPoint
from safespan.settings.analysis import ACTIVATION_ENERGIES
from safespan.settings.names import check_shares
from safespan.subspaces import decompose


def activation_overlap(
    useful: Float[torch.Tensor, "N d"],
    harmful: Float[torch.Tensor, "M d"],
    energies: Sequence[float] = ACTIVATION_ENERGIES,
    centered: bool = False,
    resampling: Resampling | None = None,
) -> list[ActivationPoint]:
    """Mode subspace overlap of useful and harmful activations at one layer, for every energy fraction.

    Args:
        useful: N × d, a row per useful prompt.
        harmful: M × d, a row per harmful prompt.
        energies: η, each in (0, 1].
        centered: subtract each class's mean first. Without it, the first direction is mostly the mean that both classes
            share, and dominates the overlap.
        resampling: number of resamples for `p_value`, `mso_low` and `mso_high`, which are NaN if None.

    Returns:
        One point per energy.

    Raises:
        ConfigError: an energy outside (0, 1].
    """
    check_shares("energy fraction", energies)
    x, y = (rows.double() - rows.double().mean(0) if centered else rows.double() for rows in (useful, harmful))
    points = overlap_curve(decompose(x.T), decompose(y.T), energies)
    drawn = resampled_overlap(x, y, energies, centered, resampling or Resampling(0, 0))
    return [
        ActivationPoint(
            point.energy_fraction, point.k_x, point.k_y, point.mso, point.mso_random, *map(float, resampled)
        )
        for point, *resampled in zip(points, *drawn, strict=True)
    ]
