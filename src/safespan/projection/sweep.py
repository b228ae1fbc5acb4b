"""Energies and cosines of the whole grid, without an evaluation."""

from collections import defaultdict
from functools import partial

from safespan.checkpoints import layer_of, module_of, natural_order
from safespan.checkpoints.updates import check_memory
from safespan.linalg.kernels import inner_product, squared_norm
from safespan.linalg.parallel import ParallelMap, parallel_map
from safespan.progress import track
from safespan.projection.family import Family
from safespan.projection.tensor import Coefficients, TensorProjection, directions
from safespan.results.tables import EnergyRow, RemovedEnergyRow
from safespan.settings.analysis import ProjectionGrid
from safespan.subspaces import Decompose, decompose

_Part = tuple[str, str]
"""A layer, and a kind of module in it."""


def sweep(
    family: Family,
    grid: ProjectionGrid,
    seed: int,
    decompose: Decompose = decompose,
    mapper: ParallelMap = parallel_map,
) -> tuple[list[EnergyRow], list[RemovedEnergyRow]]:
    """Energies and cosines of the whole grid, in one pass over the tensors.

    Args:
        family: the checkpoints.
        grid: which projections.
        seed: of the random subspaces.
        decompose: how updates are decomposed; a cache's if it should remember.
        mapper: the map over tensors.

    Returns:
        Rows of the tables `projection` (without outcomes) and `removed_energy`. The latter has a
        row per module and layer; the value of a layer is the mean over its modules, weighted by their shares.

    Raises:
        CheckpointError: the checkpoints do not match, or a tensor does not fit into memory.
        ConfigError: the grid has an invalid value.
    """
    names, subspaces = family.names(), family.subspaces(grid.subspaces)
    points = grid.points(subspaces)
    check_memory(family.aligned.shapes)
    inside: dict[tuple[str, str, float], dict[_Part, float]] = defaultdict(lambda: defaultdict(float))
    task: dict[str, dict[_Part, float]] = defaultdict(lambda: defaultdict(float))
    sums = dict.fromkeys(family.finetuned, (0.0, 0.0, 0.0))

    measured = partial(_measured, family=family, grid=grid, subspaces=subspaces, seed=seed, decompose=decompose)
    results = track("tensors", mapper(measured, names), len(names))
    for name, (tensor_sums, energies) in zip(names, results, strict=True):
        part = layer_of(name), module_of(name)
        for label, (norm, alignment, inner) in tensor_sums.items():
            task[label][part] += norm
            sums[label] = (sums[label][0] + norm, sums[label][1] + alignment, sums[label][2] + inner)
        for key, energy in energies.items():
            inside[key][part] += energy
    rows: list[EnergyRow] = []
    removed: list[RemovedEnergyRow] = []
    for label in family.finetuned:
        for subspace, method, fraction in points:
            point = (label, subspace, method, fraction, seed)
            by_part = inside[label, subspace, fraction]
            rows.append(EnergyRow(*point, *_energy_and_cosines(sum(by_part.values()), *sums[label], method)))
            for layer, module in sorted(by_part, key=lambda part: [natural_order(name) for name in part]):
                whole = task[label][layer, module]
                removed_energy = 1 - _kept(by_part[layer, module], whole, method)
                share = whole / sums[label][0] if sums[label][0] else float("nan")
                removed.append(RemovedEnergyRow(*point, layer, module, removed_energy, share))
    return rows, removed


def _measured(
    name: str, family: Family, grid: ProjectionGrid, subspaces: tuple[str, ...], seed: int, decompose: Decompose
) -> tuple[dict[str, tuple[float, float, float]], dict[tuple[str, str, float], float]]:
    """‖Δ_T‖², ‖Δ_A‖² and ⟨Δ_T, Δ_A⟩ of one tensor by fine-tune, and ‖P‖²_F by (fine-tune, subspace, fraction)."""
    tensor = family.tensor(name, grid.side, seed, decompose)
    alignment = tensor.whole("alignment")
    norm = squared_norm(alignment)
    known = {subspace: directions(tensor, subspace) for subspace in subspaces}
    sums, energies = {}, {}
    for label in family.finetuned:
        delta = family.task_update(name, label)
        sums[label] = (squared_norm(delta), norm, inner_product(delta, alignment))
        shared: Coefficients = {}
        for subspace, along in known.items():
            projection = TensorProjection(delta, along, shared)
            for fraction in grid.fractions:
                energies[label, subspace, fraction] = projection.energy(fraction)
        del delta  # free its memory before the next one is read
    return sums, energies


def _kept(inside: float, total: float, method: str) -> float:
    if not total:
        return float("nan")
    kept = (total - inside if method == "orthogonal" else inside) / total
    return min(1.0, max(0.0, kept))


def _energy_and_cosines(
    inside: float, task: float, alignment: float, inner: float, method: str
) -> tuple[float, float, float]:
    kept, norm = _kept(inside, task, method), (task * alignment) ** 0.5
    # P is an orthogonal projection of Δ_T, so ⟨Δ_T, P⟩ = ‖P‖² and the cosine is the root of the energy kept.
    cosine = -(kept**0.5) if method == "opposite" else kept**0.5
    return kept, cosine, inner / norm if norm else float("nan")
