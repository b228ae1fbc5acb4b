"""Energies and cosines of the whole grid, without an evaluation."""

from dataclasses import dataclass
from functools import partial

from safespan.checkpoints import layer_of, module_of, natural_order
from safespan.checkpoints.updates import check_memory, update
from safespan.linalg.kernels import inner_product, squared_norm
from safespan.linalg.parallel import ParallelMap, parallel_map
from safespan.progress import track
from safespan.projection.family import Family
from safespan.projection.tensor import directions, projections
from safespan.results.tables import EnergyRow, RemovedEnergyRow
from safespan.settings.analysis import ProjectionGrid
from safespan.subspaces import Decompose, decompose

_Part = tuple[str, str]
"""A layer, and a kind of module in it."""


@dataclass(frozen=True)
class _Sums:
    """Sums over tensors of one fine-tune: ‖Δ_T‖², ‖Δ_A‖², ⟨Δ_T, Δ_A⟩."""

    task: float = 0.0
    alignment: float = 0.0
    inner: float = 0.0

    def plus(self, other: "_Sums") -> "_Sums":
        return _Sums(self.task + other.task, self.alignment + other.alignment, self.inner + other.inner)

    def cosine(self) -> float:
        norm = (self.task * self.alignment) ** 0.5
        return self.inner / norm if norm else float("nan")


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
    inside: dict[tuple[str, str, float], dict[_Part, float]] = {}
    task: dict[str, dict[_Part, float]] = {label: {} for label in family.finetuned}
    sums = {label: _Sums() for label in family.finetuned}

    measured = partial(_measured, family=family, grid=grid, subspaces=subspaces, seed=seed, decompose=decompose)
    results = track("tensors", mapper(measured, names), len(names))
    for name, (tensor_sums, energies) in zip(names, results, strict=True):
        part = layer_of(name), module_of(name)
        for label, tensor_sum in tensor_sums.items():
            task[label][part] = task[label].get(part, 0.0) + tensor_sum.task
            sums[label] = sums[label].plus(tensor_sum)
        for key, energy in energies.items():
            by_part = inside.setdefault(key, {})
            by_part[part] = by_part.get(part, 0.0) + energy
    rows: list[EnergyRow] = []
    removed: list[RemovedEnergyRow] = []
    for label in family.finetuned:
        for subspace, method, fraction in points:
            point = (label, subspace, method, fraction, seed)
            by_part = inside[label, subspace, fraction]
            rows.append(EnergyRow(*point, *_energy_and_cosines(sum(by_part.values()), sums[label], method)))
            for layer, module in sorted(by_part, key=lambda part: [natural_order(name) for name in part]):
                whole = task[label][layer, module]
                removed_energy = 1 - _kept(by_part[layer, module], whole, method)
                share = whole / sums[label].task if sums[label].task else float("nan")
                removed.append(RemovedEnergyRow(*point, layer, module, removed_energy, share))
    return rows, removed


def _measured(
    name: str, family: Family, grid: ProjectionGrid, subspaces: tuple[str, ...], seed: int, decompose: Decompose
) -> tuple[dict[str, _Sums], dict[tuple[str, str, float], float]]:
    """Sums of one tensor by fine-tune, and ‖P‖²_F by (fine-tune, subspace, fraction)."""
    tensor = family.tensor(name, grid.side, seed, decompose)
    alignment = tensor.whole("alignment")
    norm = squared_norm(alignment)
    known = directions(tensor, subspaces)
    sums: dict[str, _Sums] = {}
    energies: dict[tuple[str, str, float], float] = {}
    for label, end in family.finetuned.items():
        delta = update(name, family.aligned, end)
        sums[label] = _Sums(squared_norm(delta), norm, inner_product(delta, alignment))
        for subspace, projection in projections(delta, known):
            for fraction in grid.fractions:
                energies[label, subspace, fraction] = projection.energy(fraction)
        del delta  # free its memory before the next one is read
    return sums, energies


def _kept(inside: float, total: float, method: str) -> float:
    if not total:
        return float("nan")
    kept = (total - inside if method == "orthogonal" else inside) / total
    return min(1.0, max(0.0, kept))


def _energy_and_cosines(inside: float, sums: _Sums, method: str) -> tuple[float, float, float]:
    kept = _kept(inside, sums.task, method)
    # P is an orthogonal projection of Δ_T, so ⟨Δ_T, P⟩ = ‖P‖² and the cosine is the root of the energy kept.
    cosine = -(kept**0.5) if method == "opposite" else kept**0.5
    return kept, cosine, sums.cosine()
