"""Overlap of the subspaces that two classes of prompts span in the residual stream (METHODS §4)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float

from safespan.activations.capture import capture, decoder_blocks, layers_in_depth_range
from safespan.overlap import check_energies, overlap_curve
from safespan.pretrained import load_pretrained
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
        Rows of energy_fraction, k_useful, k_harmful, mso and mso_random = max(k) / d.

    Raises:
        ConfigError: an energy outside (0, 1].
    """
    check_energies(energies)
    points = overlap_curve(_spectrum(useful, centered), _spectrum(harmful, centered), energies)
    return [
        {
            "energy_fraction": point.energy_fraction,
            "k_useful": point.k_x,
            "k_harmful": point.k_y,
            "mso": point.mso,
            "mso_random": point.mso_random,
        }
        for point in points
    ]


def overlap_by_layer(
    folder: Path,
    useful: Sequence[str],
    harmful: Sequence[str],
    layers: str | None = None,
    energies: Sequence[float] = ENERGY_FRACTIONS,
    batch_size: int = 32,
    centerings: Sequence[bool] = (False, True),
) -> list[dict[str, Any]]:
    """Activation overlap of two classes of prompts at the layers of one model.

    Args:
        folder: the model's checkpoint.
        useful: N useful prompts.
        harmful: M harmful prompts.
        layers: range of depth such as 0.65:0.90; all layers if None.
        energies: η, each in (0, 1].
        batch_size: prompts run together.
        centerings: whether to subtract each class's mean; one set of rows for each.

    Returns:
        Rows of the table `activations` of `results.SCHEMAS`, all but the model's name.

    Raises:
        CheckpointError: the checkpoint is missing or broken.
        ConfigError: an energy or a range of layers that cannot be.
    """
    model, tokenizer = load_pretrained(folder)
    chosen = layers_in_depth_range(len(decoder_blocks(model)), layers) if layers else None
    states = [capture(model, tokenizer, prompts, chosen, batch_size) for prompts in (useful, harmful)]
    return [
        {"layer": layer, "centered": centered, **row}
        for layer in states[0]
        for centered in centerings
        for row in activation_overlap(states[0][layer], states[1][layer], energies, centered)
    ]


def _spectrum(activations: Float[torch.Tensor, "N d"], centered: bool) -> Spectrum:
    exact = activations.double()
    return decompose((exact - exact.mean(0) if centered else exact).T)
