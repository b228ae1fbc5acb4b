"""Overlap of two updates, and the spectrum of each, matrix by matrix (METHODS §3)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations

import torch

from safespan.checkpoints import Checkpoint, layer_of, module_of, natural_order
from safespan.checkpoints.updates import check_memory, check_same_layout, update
from safespan.errors import ConfigError
from safespan.linalg.kernels import squared_norm
from safespan.linalg.parallel import ParallelMap, parallel_map
from safespan.linalg.stacks import matrices, matrix_names
from safespan.overlap.curve import overlap_curve
from safespan.progress import track
from safespan.results.tables import OverlapRow, SpectrumRow
from safespan.settings.analysis import UPDATE_ENERGIES
from safespan.settings.names import GRANULARITIES, check_choices, check_shares
from safespan.subspaces import Decompose, Spectrum, decompose, spectrum_points

Ends = tuple[Checkpoint, Checkpoint]
"""Start and end of an update: Δ = end − start."""

Label = tuple[str, bool]
"""Name of an update, and whether it is that of the same recipe under another seed."""


def update_overlap(
    updates: Mapping[str, Ends],
    granularity: str,
    energies: Sequence[float] = UPDATE_ENERGIES,
    decompose: Decompose = decompose,
    mapper: ParallelMap = parallel_map,
    again: Mapping[str, Ends] | None = None,
) -> tuple[list[OverlapRow], list[SpectrumRow]]:
    """MSO of every two updates, and the spectrum of each update, for every tensor or layer, each decomposed once.

    Args:
        updates: name -> its ends.
        granularity: `tensor`, or `layer`: the tensors of one block with the same column count, stacked along rows.
        energies: η, each in (0, 1].
        decompose: how updates are decomposed; a cache's if it should remember.
        mapper: the map over tensors or layers.
        again: name of an update -> the ends of the same recipe under another seed; their overlap is the ceiling.

    Returns:
        Rows of the tables `overlap` and `spectra`. 1-D tensors have no subspace and no row; zero updates have no
        spectrum, and no row in the second.

    Raises:
        ConfigError: fewer than two updates, an unknown granularity or an energy outside (0, 1].
        CheckpointError: the checkpoints do not match.
    """
    if len(updates) < 2:
        raise ConfigError(f"overlap needs at least two updates, given {len(updates)}")
    check_choices("granularity", [granularity], GRANULARITIES)
    check_shares("energy fraction", energies)
    all_updates = {(name, False): ends for name, ends in updates.items()}
    all_updates |= {(name, True): ends for name, ends in (again or {}).items()}
    pairs = [((x, False), (y, False)) for x, y in combinations(updates, 2)]
    names = check_same_layout(*(checkpoint for ends in all_updates.values() for checkpoint in ends))
    check_memory(next(iter(all_updates.values()))[0].shapes)
    measured = partial(
        _measured,
        updates=all_updates,
        granularity=granularity,
        energies=energies,
        decompose=decompose,
        pairs=[*pairs, *(((name, False), (name, True)) for name in again or {})],
    )
    groups = _groups(names, granularity)
    overlaps: list[OverlapRow] = []
    spectra: list[SpectrumRow] = []
    whole = dict.fromkeys(updates, 0.0)
    for part, points, norms in track(f"{granularity}s", mapper(measured, groups.items()), len(groups)):
        overlaps += part
        spectra += points
        whole = {name: norm + norms[name] for name, norm in whole.items()}
    # So far the share of a row is ‖Δ‖² of its matrix.
    shares = [row.share_of_update / whole[row.update] if row.share_of_update else float("nan") for row in spectra]
    return overlaps, [replace(row, share_of_update=share) for row, share in zip(spectra, shares, strict=True)]


def _measured(
    group: tuple[str, list[str]],
    updates: Mapping[Label, Ends],
    granularity: str,
    energies: Sequence[float],
    decompose: Decompose,
    pairs: Sequence[tuple[Label, Label]],
) -> tuple[list[OverlapRow], list[SpectrumRow], dict[str, float]]:
    """Rows of one tensor or layer, with ‖Δ‖² as share of those of spectra; update -> ‖Δ‖² of all its tensors."""
    name, members = group
    tensor = granularity == "tensor"
    layer, module = (layer_of(name), module_of(name)) if tensor else (name, None)
    decomposed: dict[Label, dict[str, Spectrum]] = {}
    overlaps: list[OverlapRow] = []
    spectra: list[SpectrumRow] = []
    norms: dict[str, float] = {}
    for (label, again), ends in updates.items():
        deltas = {member: update(member, *ends) for member in members}
        by_name = _group_matrices(name, deltas, granularity)
        decomposed[label, again] = {matrix: decompose(delta) for matrix, delta in by_name.items()}
        if again:
            continue
        norms[label] = sum(map(squared_norm, deltas.values()))
        for matrix, delta in by_name.items():
            columns, norm = (label, matrix, layer, module, min(delta.shape)), squared_norm(delta)
            points = spectrum_points(decomposed[label, again][matrix].values)
            spectra += [SpectrumRow(*columns, **vars(point), share_of_update=norm) for point in points]
    for x, y in pairs:
        for matrix, spectrum in decomposed[x].items():
            pair = (x[0], y[0], y[1], matrix, granularity, layer, module)
            curve = overlap_curve(spectrum, decomposed[y][matrix], energies)
            overlaps += [OverlapRow(*pair, **vars(point)) for point in curve]
    return overlaps, spectra, norms


def _groups(names: Sequence[str], granularity: str) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=natural_order):
        groups.setdefault(name if granularity == "tensor" else layer_of(name), []).append(name)
    return groups


def _group_matrices(group: str, deltas: Mapping[str, torch.Tensor], granularity: str) -> dict[str, torch.Tensor]:
    """Name in the table -> matrix, of the update of one group; in a layer, stacked along rows by column count."""
    if granularity == "layer":
        by_columns: dict[int, list[torch.Tensor]] = {}
        for matrix in (matrix for delta in deltas.values() for matrix in matrices(delta)):
            by_columns.setdefault(matrix.shape[1], []).append(matrix)
        return {f"{group} ({columns} columns)": torch.cat(rows) for columns, rows in sorted(by_columns.items())}
    names = matrix_names(group, tuple(deltas[group].shape))
    return dict(zip(names, matrices(deltas[group]), strict=True))
