"""Activation overlap of two classes of prompts at every layer of one model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safespan.activations.capture import capture, decoder_blocks, layers_in_depth_range
from safespan.activations.geometry import ENERGY_FRACTIONS, activation_overlap
from safespan.loading import load_causal_lm


def overlap_by_layer(
    folder: Path,
    prompts: tuple[Sequence[str], Sequence[str]],
    depth: str | None = None,
    energies: Sequence[float] = ENERGY_FRACTIONS,
    batch_size: int = 32,
    centerings: Sequence[bool] = (False, True),
) -> list[dict[str, Any]]:
    """Run a model over useful and harmful prompts once, and measure their overlap layer by layer (METHODS §4).

    Args:
        folder: model folder with tokenizer.
        prompts: the useful and the harmful prompts.
        depth: range of layers such as `0.65:0.90`; all of them if None.
        energies: η, each in (0, 1].
        batch_size: prompts a forward pass.
        centerings: whether each class's mean is subtracted first; each gives rows of its own.

    Returns:
        Rows of the table `activations` of `results.SCHEMAS`, without the model's name.

    Raises:
        ConfigError: an energy or a range that cannot be.
        CheckpointError: the model cannot be loaded.
    """
    model, tokenizer = load_causal_lm(folder)
    layers = layers_in_depth_range(len(decoder_blocks(model)), depth) if depth else None
    useful, harmful = (capture(model, tokenizer, texts, layers, batch_size) for texts in prompts)
    return [
        {"layer": layer, "centered": centered, **row}
        for centered in centerings
        for layer in useful
        for row in activation_overlap(useful[layer], harmful[layer], energies, centered)
    ]
