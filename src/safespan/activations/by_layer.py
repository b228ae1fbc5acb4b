"""Overlap and separation of the activations of two classes of prompts, at one layer and at all (METHODS §4)."""

from collections.abc import Sequence
from datetime import date
from itertools import product

import torch
from jaxtyping import Float

from safespan.activations.capture import capture, decoder_blocks, layers_in_depth_range
from safespan.activations.resampling import Resampling, resampled_overlap
from safespan.activations.separation import separation
from safespan.checkpoints import Checkpoint
from safespan.models.loading import load_causal_lm
from safespan.overlap.curve import overlap_curve
from safespan.progress import track
from safespan.results.tables import ActivationPoint, LayerOverlap, LayerSeparation
from safespan.settings.analysis import ACTIVATION_ENERGIES
from safespan.settings.base import TEMPLATE_DATE
from safespan.settings.names import check_shares
from safespan.subspaces import decompose

Activations = dict[int, torch.Tensor]
"""Layer -> N × d."""


def capture_classes(
    checkpoint: Checkpoint,
    prompts: tuple[Sequence[str], Sequence[str]],
    depth: str | None = None,
    batch_size: int = 32,
    day: date = TEMPLATE_DATE,
) -> tuple[Activations, Activations]:
    """Capture the activations of a model on useful prompts, and on harmful ones.

    Args:
        depth: range of layers such as `0.65:0.90`; all of them if None.
        day: today, for chat templates that ask for it.

    Raises:
        ConfigError: an invalid range.
        CheckpointError: the model cannot be loaded.
        DataError: no prompts in a class.
    """
    model, tokenizer = load_causal_lm(checkpoint.folder, adapter=checkpoint.adapter)
    layers = layers_in_depth_range(len(decoder_blocks(model)), depth) if depth else None
    useful, harmful = (capture(model, tokenizer, texts, layers, batch_size, day=day) for texts in prompts)
    return useful, harmful


def overlap_by_layer(
    useful: Activations,
    harmful: Activations,
    energies: Sequence[float] = ACTIVATION_ENERGIES,
    centerings: Sequence[bool] = (False, True),
    halves_seed: int | None = None,
    resampling: Resampling | None = None,
) -> list[LayerOverlap]:
    """Activation overlap of two classes of prompts, layer by layer (METHODS §4).

    Args:
        energies: η, each in (0, 1].
        centerings: whether each class's mean is subtracted first; each value gives separate rows.
        halves_seed: also compare two random halves of each class, drawn with this seed: the largest overlap that this
            number of prompts allows.
        resampling: for p-values and intervals of the two classes; none if None. Halves have none: they are themselves a
            permutation.

    Returns:
        Rows of the table `activations` without the model's name.

    Raises:
        ConfigError: an energy outside (0, 1].
    """
    pairs = {("useful", "harmful"): (useful, harmful)}
    if halves_seed is not None:
        pairs[("useful", "useful")] = _halves(useful, halves_seed)
        pairs[("harmful", "harmful")] = _halves(harmful, halves_seed)
    places = list(product(pairs.items(), centerings, useful))
    return [
        LayerOverlap(*names, layer, centered, **vars(point))
        for (names, (x, y)), centered, layer in track("overlaps", places, len(places))
        for point in activation_overlap(
            x[layer], y[layer], energies, centered, resampling if len(set(names)) > 1 else None
        )
    ]


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


def separation_by_layer(useful: Activations, harmful: Activations, seed: int = 0) -> list[LayerSeparation]:
    """Rows of the table `separation` without the model's name: see `separation`."""
    return [
        LayerSeparation(layer, **vars(separation(useful[layer], harmful[layer], seed)))
        for layer in track("probes", useful, len(useful))
    ]


def _halves(activations: Activations, seed: int) -> tuple[Activations, Activations]:
    """Two random halves of the prompts, the same at every layer."""
    number = len(next(iter(activations.values())))
    order = torch.randperm(number, generator=torch.Generator().manual_seed(seed))
    first, second = order[: number // 2], order[number // 2 :]
    return {ly: a[first] for ly, a in activations.items()}, {ly: a[second] for ly, a in activations.items()}
