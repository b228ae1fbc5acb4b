"""Mode subspace overlap of two updates, and the spectrum of each (METHODS §3)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats

from safespan.checkpoints import Checkpoint, layer_of, module_of, natural_order
from safespan.choices import GRANULARITIES, check_choices, check_shares
from safespan.errors import ConfigError
from safespan.kernels import gram, product, squared_norm
from safespan.pool import Spread, side_by_side
from safespan.progress import counted
from safespan.subspaces import Decompose, Spectrum, decompose, spectrum_rows
from safespan.updates import check_memory, check_same_layout, matrices, matrix_names, update

ENERGY_FRACTIONS = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
"""The paper's η for updates."""


_MOST_ANGLES = 256
"""With subspaces that are both larger, their principal angles cost more than all the rest and say little: left out."""


@dataclass(frozen=True)
class OverlapPoint:
    """Overlap of two subspaces that hold the same share of their updates' energy.

    Attributes:
        energy_fraction: η.
        k_x: rank of X's subspace; 0 says that X is a zero update, which has no subspace.
        k_y: the same of Y.
        mso: ‖Q_Xᵀ Q_Y‖²_F / min(k_X, k_Y) in [0, 1]; NaN, as all that follows, if either update is zero.
        mso_random: max(k_X, k_Y) / m, expected for independent random subspaces.
        mso_random_sd: standard deviation of MSO about it.
        p_value: probability that a random subspace overlaps at least as much (`random_overlap`).
        angle_min: smallest principal angle between the subspaces, degrees; NaN where min(k_X, k_Y) > 256.
        angle_median: median of their min(k_X, k_Y) principal angles, degrees; NaN likewise.
    """

    energy_fraction: float
    k_x: int
    k_y: int
    mso: float
    mso_random: float
    mso_random_sd: float
    p_value: float
    angle_min: float
    angle_median: float


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
        return [OverlapPoint(energy, *k, *[float("nan")] * 6) for energy, k in zip(energies, ranks, strict=True)]
    crossed = product(x.left[:, :most_x].T, y.left[:, :most_y])
    cumulated = (crossed.double() ** 2).cumsum(0).cumsum(1)
    different = list(dict.fromkeys(ranks))
    # Bases in float32 can overlap by a rounding more than wholly.
    shared = np.array([min(1.0, float(cumulated[k[0] - 1, k[1] - 1]) / min(k)) for k in different])
    k_x, k_y = np.array(different).T
    mean, deviation, p_value = random_overlap(k_x, k_y, len(x.left), shared)
    angles = [_angles(x.left[:, :k], y.left[:, :j], crossed[:k, :j]) for k, j in different]
    columns = np.column_stack([shared, mean, deviation, p_value, angles])
    found = dict(zip(different, columns.tolist(), strict=True))
    return [OverlapPoint(energy, *k, *found[k]) for energy, k in zip(energies, ranks, strict=True)]


def random_overlap(
    k_x: np.ndarray, k_y: np.ndarray, m: int, mso: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What MSO is by chance: between any k_X-dimensional subspace of R^m and a Haar-random k_Y-dimensional one.

    ‖Q_Xᵀ Q_Y‖²_F has the mean k_X k_Y / m, and the variance 2 k_X k_Y (m − k_X)(m − k_Y) / (m² (m − 1)(m + 2)) from
    the fourth moments of the orthogonal group (Collins and Śniady, Commun. Math. Phys. 264, 2006). It is at least
    k_X + k_Y − m, as larger subspaces must meet. Its tail is that of the Beta distribution between that bound and the
    largest MSO, 1, with the same two moments. That is exact where either subspace or its complement is a line, as the
    squared cosine of a random line with a k-dimensional subspace is Beta(k/2, (m − k)/2), and close elsewhere.

    Args:
        k_x: ranks, at least 1.
        k_y: ranks, at least 1, of the same shape.
        m: dimension of the space.
        mso: overlaps found, of the same shape.

    Returns:
        Mean and standard deviation of MSO, and the probability of an overlap at least as large as the one found.
    """
    smaller, mean = np.minimum(k_x, k_y), np.maximum(k_x, k_y) / m
    variance = 2 * mean * (m - k_x) * (m - k_y) / (m * max(1, m - 1) * (m + 2) * smaller)
    deviation = np.sqrt(variance)
    low = np.maximum(0, k_x + k_y - m) / smaller
    random = deviation > 0  # else one of the two is the whole space
    scale = np.where(random, 1 - low, 1)
    centre = np.where(random, (mean - low) / scale, 0.5)
    size = centre * (1 - centre) / np.where(random, deviation / scale, 0.25) ** 2 - 1
    tail = stats.beta.sf((mso - low) / scale, centre * size, (1 - centre) * size)
    return mean, deviation, np.where(random, tail, 1.0)


def _angles(
    x: Float[torch.Tensor, "m k"], y: Float[torch.Tensor, "m l"], crossed: Float[torch.Tensor, "k l"]
) -> tuple[float, float]:
    """Smallest and median principal angle between two subspaces, in degrees, from their crossed product XᵀY.

    The cosine of a small angle is 1 to all its digits, so angles below 45° come from their sines, the singular values
    of the part of Y outside X (Björck and Golub, Math. Comput. 27, 1973).
    """
    if min(crossed.shape) > _MOST_ANGLES:
        return float("nan"), float("nan")
    if len(crossed) < crossed.shape[1]:
        x, y, crossed = y, x, crossed.T
    cosines = _singular_values(crossed)[::-1]
    angles = np.arccos(np.minimum(cosines, 1))
    if (small := cosines**2 >= 0.5).any():
        sines = _singular_values(y - product(x, crossed))
        angles[small] = np.arcsin(np.minimum(sines, 1))[small]
    smallest, median = np.degrees([angles.min(), np.median(angles)])
    return float(smallest), float(median)


def _singular_values(tall: Float[torch.Tensor, "m k"]) -> np.ndarray:
    """Singular values, rising, to √ε of float64, which is finer than bases in float32 are."""
    squares = np.linalg.eigvalsh(gram(tall.double()).cpu().numpy())
    values: np.ndarray = np.sqrt(np.maximum(squares, 0))
    return values


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
    pairs: Sequence[tuple[str, str]] | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """MSO of pairs of updates, and the spectrum of each update, for every tensor or layer, each decomposed once.

    Args:
        updates: name -> (start, end): Δ = end − start.
        granularity: `tensor`, or `layer`: the tensors of one block with the same column count, stacked along rows.
        energies: η, each in (0, 1].
        decompose: how updates are decomposed; a cache's if it should remember.
        spread: where tensors or layers are worked on.
        pairs: names of the updates to compare; every two of them if None.

    Returns:
        Rows of the tables `overlap` and `spectra` of `results.SCHEMAS`. 1-D tensors have no subspace and no row; zero
        updates have no spectrum, and no row in the second.

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

    measured = partial(
        _measured,
        updates=updates,
        granularity=granularity,
        energies=energies,
        decompose=decompose,
        pairs=pairs or list(combinations(updates, 2)),
    )
    groups = _groups(names, granularity)
    overlaps: list[dict[str, Any]] = []
    spectra: list[tuple[float, dict[str, Any]]] = []
    whole = dict.fromkeys(updates, 0.0)
    for found in counted(f"{granularity}s", spread(measured, groups.items()), len(groups)):
        overlaps += found.overlaps
        spectra += found.spectra
        whole = {label: norm + found.norms[label] for label, norm in whole.items()}
    shares = [norm / whole[row["update"]] if norm else float("nan") for norm, row in spectra]
    return overlaps, [{**row, "share_of_update": share} for (_, row), share in zip(spectra, shares, strict=True)]


@dataclass(frozen=True)
class _Measured:
    """Of one tensor or layer: rows of `overlap`; ‖Δ‖² of a matrix with each row of `spectra`; ‖Δ‖² of all by update."""

    overlaps: list[dict[str, Any]]
    spectra: list[tuple[float, dict[str, Any]]]
    norms: dict[str, float]


def _measured(
    group: tuple[str, list[str]],
    updates: Mapping[str, tuple[Checkpoint, Checkpoint]],
    granularity: str,
    energies: Sequence[float],
    decompose: Decompose,
    pairs: Sequence[tuple[str, str]],
) -> _Measured:
    name, members = group
    tensor = granularity == "tensor"
    place = {"layer": layer_of(name) if tensor else name, "module": module_of(name) if tensor else None}
    decomposed: dict[str, dict[str, Spectrum]] = {}
    found = _Measured([], [], {})
    for label, pair in updates.items():
        deltas = {member: update(member, *pair) for member in members}
        found.norms[label] = sum(map(squared_norm, deltas.values()))
        decomposed[label] = {}
        for matrix, delta in _group_matrices(name, deltas, granularity).items():
            spectrum = decomposed[label][matrix] = decompose(delta)
            whole = {"update": label, "tensor": matrix, **place, "n": min(delta.shape)}
            norm = squared_norm(delta)
            found.spectra.extend((norm, {**whole, **row}) for row in spectrum_rows(spectrum.values))
    for x, y in pairs:
        for matrix, spectrum in decomposed[x].items():
            row = {"pair": f"{x}-{y}", "group": matrix, "granularity": granularity, **place}
            curve = overlap_curve(spectrum, decomposed[y][matrix], energies)
            found.overlaps.extend({**row, **asdict(point)} for point in curve)
    return found


def _groups(names: Sequence[str], granularity: str) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=natural_order):
        groups.setdefault(name if granularity == "tensor" else layer_of(name), []).append(name)
    return groups


def _group_matrices(group: str, deltas: Mapping[str, torch.Tensor], granularity: str) -> dict[str, torch.Tensor]:
    """The matrices of one group's update, by the name they have in the table."""
    if granularity == "layer":
        parts = [matrix for delta in deltas.values() for matrix in matrices(delta)]
        return {f"{group} ({columns} columns)": rows for columns, rows in stacked(parts).items()}
    names = matrix_names(group, tuple(deltas[group].shape))
    return dict(zip(names, matrices(deltas[group]), strict=False))
