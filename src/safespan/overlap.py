"""Mode subspace overlap of two updates (METHODS §3)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from typing import Any

import torch

from safespan.checkpoints import Checkpoint, layer_of, natural_order
from safespan.choices import GRANULARITIES, check_choices, check_shares
from safespan.errors import ConfigError
from safespan.kernels import product
from safespan.pool import Spread, side_by_side
from safespan.subspaces import Decompose, Spectrum, decompose
from safespan.updates import check_memory, check_same_layout, matrices, matrix_names, update

ENERGY_FRACTIONS = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
"""The paper's η for updates."""


@dataclass(frozen=True)
class OverlapPoint:
    """Overlap of two subspaces that hold the same share of their updates' energy.

    Attributes:
        energy_fraction: η.
        k_x: rank of X's subspace; 0 says that X is a zero update, which has no subspace.
        k_y: the same of Y.
        mso: ‖Q_Xᵀ Q_Y‖²_F / min(k_X, k_Y) in [0, 1]; NaN if either update is zero.
        mso_random: max(k_X, k_Y) / m, expected for independent random subspaces; NaN as above.
    """

    energy_fraction: float
    k_x: int
    k_y: int
    mso: float
    mso_random: float


def overlap_curve(x: Spectrum, y: Spectrum, energies: Sequence[float]) -> list[OverlapPoint]:
    """MSO at every energy fraction, from one product of the two bases.

    The cumulated squares of Q_Xᵀ Q_Y hold the answer for every pair of ranks at once.

    Args:
        x: spectrum of the first update, [m, r_x].
        y: spectrum of the second, [m, r_y].
        energies: η, each in (0, 1].
    """
    ranks = [(x.rank_for_energy(energy), y.rank_for_energy(energy)) for energy in energies]
    most_x, most_y = max((k for k, _ in ranks), default=0), max((k for _, k in ranks), default=0)
    if not most_x or not most_y:
        return [OverlapPoint(energy, *k, float("nan"), float("nan")) for energy, k in zip(energies, ranks, strict=True)]
    squares = product(x.left[:, :most_x].T, y.left[:, :most_y]).double() ** 2
    cumulated = squares.cumsum(0).cumsum(1)
    return [
        # Bases in float32 can overlap by a rounding more than wholly.
        OverlapPoint(
            energy, *k, min(1.0, float(cumulated[k[0] - 1, k[1] - 1]) / min(k)), mso_random=max(k) / len(x.left)
        )
        for energy, k in zip(energies, ranks, strict=True)
    ]


def stacked(updates: Sequence[torch.Tensor]) -> dict[int, torch.Tensor]:
    """The matrices of one layer stacked along rows, by column count (granularity `layer`)."""
    by_columns: dict[int, list[torch.Tensor]] = {}
    for matrix in updates:
        by_columns.setdefault(matrix.shape[1], []).append(matrix)
    return {columns: torch.cat(parts) for columns, parts in sorted(by_columns.items())}


def update_overlap(
    updates: Mapping[str, tuple[Checkpoint, Checkpoint]],
    granularity: str,
    energies: Sequence[float] = ENERGY_FRACTIONS,
    decompose: Decompose = decompose,
    spread: Spread = side_by_side,
) -> list[dict[str, Any]]:
    """MSO of every pair of updates, for every tensor or layer.

    Args:
        updates: name -> (start, end): Δ = end − start.
        granularity: `tensor`, or `layer`: the tensors of one block with the same column count, stacked along rows.
        energies: η, each in (0, 1].
        decompose: how updates are decomposed; a cache's if it should remember.
        spread: where tensors or layers are worked on.

    Returns:
        Rows of the table `overlap` of `results.SCHEMAS`. 1-D tensors have no subspace and no row.

    Raises:
        ConfigError: fewer than two updates, an unknown granularity or an energy outside (0, 1].
        CheckpointError: the checkpoints do not match.
    """
    if len(updates) < 2:
        raise ConfigError(f"overlap needs at least two updates, given {len(updates)}")
    check_choices("granularity", [granularity], GRANULARITIES)
    check_shares("energy fraction", energies)
    names = check_same_layout(*(checkpoint for pair in updates.values() for checkpoint in pair))
    check_memory(next(iter(updates.values()))[0].shapes)

    measured = partial(_measured, updates=updates, granularity=granularity, energies=energies, decompose=decompose)
    return [row for rows in spread(measured, _groups(names, granularity).items()) for row in rows]


def _measured(
    group: tuple[str, list[str]],
    updates: Mapping[str, tuple[Checkpoint, Checkpoint]],
    granularity: str,
    energies: Sequence[float],
    decompose: Decompose,
) -> list[dict[str, Any]]:
    decomposed = {label: _group_spectra(*group, pair, granularity, decompose) for label, pair in updates.items()}
    return [
        {"pair": f"{x}-{y}", "group": matrix, "granularity": granularity, **asdict(point)}
        for x, y in combinations(updates, 2)
        for matrix, spectrum in decomposed[x].items()
        for point in overlap_curve(spectrum, decomposed[y][matrix], energies)
    ]


def _groups(names: Sequence[str], granularity: str) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=natural_order):
        groups.setdefault(name if granularity == "tensor" else layer_of(name), []).append(name)
    return groups


def _group_spectra(
    group: str,
    members: Sequence[str],
    pair: tuple[Checkpoint, Checkpoint],
    granularity: str,
    decompose: Decompose,
) -> dict[str, Spectrum]:
    """Spectra of one group's matrices under one update, by the name they have in the table."""
    if granularity == "layer":
        parts = [matrix for name in members for matrix in matrices(update(name, *pair))]
        return {f"{group} ({columns} columns)": decompose(rows) for columns, rows in stacked(parts).items()}
    delta = update(group, *pair)
    return {
        label: decompose(matrix)
        for label, matrix in zip(matrix_names(group, tuple(delta.shape)), matrices(delta), strict=False)
    }
