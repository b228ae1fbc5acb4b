"""Bases of a protected subspace, made once and kept in a file, for training under it (METHODS §7)."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from safespan.checkpoints.updates import check_memory
from safespan.errors import CheckpointError, ConfigError
from safespan.files.atomic import atomic_path
from safespan.linalg.parallel import parallel_map
from safespan.linalg.stacks import matrix_names
from safespan.progress import track
from safespan.projection.family import Family
from safespan.settings.names import Keep, Side
from safespan.subspaces import Basis, Decompose, Hypothesis, decompose, find_hypothesis, random_basis, rank_of_fraction

_SIDES = ("left", "right")
_ABOUT = "protection"


@dataclass(frozen=True)
class Protection:
    """What a training is held to. Vectors (norms, biases) are frozen, whatever the bases.

    Attributes:
        bases: a file of `write_protection` or `write_random_protection`; None: vectors are frozen, and that is all.
        keep: where the update of each matrix is kept, of the subspace.
    """

    bases: Path | None
    keep: Keep = "outside"


@dataclass(frozen=True)
class Ranks:
    """Directions of each matrix of one tensor on each side.

    Attributes:
        left: k of each matrix; None where there is no basis of its outputs.
        right: the same of its inputs; a matrix with neither is not claimed, and trains freely.
    """

    left: list[int | None]
    right: list[int | None]


@dataclass(frozen=True)
class About:
    """The origin of a file of bases: the claim, its fraction, side and seed, and the ranks by tensor."""

    hypothesis: str
    fraction: float
    side: Side
    seed: int
    ranks: Mapping[str, Ranks]


class ProtectedBases:
    """Reads a file of bases, tensor by tensor.

    The file holds `left/TENSOR` [m, k] and `right/TENSOR` [n, k] with orthonormal columns in float32; [E, m, k] and
    [E, n, k] of a stack, where a matrix of smaller rank has columns of zeros behind its own.

    Raises:
        CheckpointError: the file is missing, broken, or no file of bases.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})[_ABOUT])
                self._shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            ranks = {tensor: Ranks(**by_side) for tensor, by_side in about.pop("ranks").items()}
            self.about = About(**about, ranks=ranks)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is no file of protected bases ({error}): make it again") from None

    @property
    def tensors(self) -> list[str]:
        """Names of the tensors of which at least one matrix is claimed."""
        return sorted(self.about.ranks)

    def nbytes(self, tensor: str) -> int:
        """Bytes of the bases of one tensor."""
        shapes = [self._shapes.get(f"{side}/{tensor}", (0,)) for side in _SIDES]
        return sum(4 * torch.Size(shape).numel() for shape in shapes)

    def claims(self, tensor: str, device: torch.device | None = None) -> list[Basis | None]:
        """The basis of each matrix of a tensor, of exactly the protected directions; None where nothing is claimed."""
        with safe_open(self.path, framework="pt") as file:
            stored = {side: file.get_tensor(f"{side}/{tensor}") for side in self._sides(tensor)}
        columns = {side: known if known.ndim == 3 else known[None] for side, known in stored.items()}
        ranks, claims = self.about.ranks[tensor], list[Basis | None]()
        for number, by_side in enumerate(zip(ranks.left, ranks.right, strict=True)):
            parts = [
                None if k is None else columns[side][number, :, :k].contiguous().to(device)
                for side, k in zip(_SIDES, by_side, strict=True)
            ]
            claims.append(None if all(part is None for part in parts) else Basis(*parts))
        return claims

    def labels(self, tensor: str) -> list[str]:
        """Names of the matrices of a tensor."""
        return matrix_names(tensor, self._shapes[f"{self._sides(tensor)[0]}/{tensor}"])

    def check_fits(self, tensor: str, shape: tuple[int, ...]) -> None:
        """Raise CheckpointError unless the bases are of a tensor of that shape."""
        sizes = {side: (*shape[:-2], shape[-2 if side == "left" else -1]) for side in _SIDES}
        for side in self._sides(tensor):
            if self._shapes[f"{side}/{tensor}"][:-1] != sizes[side]:
                given = list(self._shapes[f"{side}/{tensor}"])
                raise CheckpointError(
                    f"{self.path} is made for another model: its {side} bases of {tensor} are {given}, and the tensor "
                    f"is {list(shape)}"
                )

    def _sides(self, tensor: str) -> list[str]:
        return [side for side in _SIDES if f"{side}/{tensor}" in self._shapes]


def check_protectable(name: str, present: Collection[str]) -> Hypothesis:
    """The hypothesis of that name, if it can be protected in training with the inputs that are present.

    Raises:
        ConfigError: it names no subspace, or needs what is not present.
    """
    hypothesis = find_hypothesis(name)
    if "training" not in hypothesis.tests:
        raise ConfigError(
            f"hypothesis {name!r} names no subspace that training could be kept outside of: it has the test "
            f"{' and '.join(hypothesis.tests)} alone; name a hypothesis that has the training test"
        )
    if missing := hypothesis.missing(present, "training"):
        raise ConfigError(f"protecting {name!r} needs {missing}: give it, or name another hypothesis")
    return hypothesis


def write_protection(
    family: Family,
    hypothesis: str,
    fraction: float,
    side: Side,
    seed: int,
    out: Path,
    decompose: Decompose = decompose,
) -> ProtectedBases:
    """Make the bases of a claim for all matrices of a family, and write them to one safetensors file.

    Args:
        family: the aligned model, which training starts from, and what the claim needs.
        hypothesis: its name.
        fraction: f: the first k = max(1, round(f · min(m, n))) directions of each m × n matrix, if so many.
        side: of bases of singular vectors.
        seed: of the claim's random choices.
        out: the file; an existing one is replaced.
        decompose: how updates are decomposed; a cache's if it should remember.

    Raises:
        ConfigError: the claim is no subspace, lacks an input, names no matrix or direction, or spans all matrices.
        CheckpointError: the checkpoints do not match, or a tensor does not fit into memory.
    """
    claim = check_protectable(hypothesis, family.present)
    names = [name for name in family.names() if len(family.aligned.shapes[name]) > 1]
    check_memory(family.aligned.shapes)

    def of_tensor(name: str) -> list[Basis | None]:
        shape = family.aligned.shapes[name]
        k = rank_of_fraction(fraction, (shape[-2], shape[-1]))
        claims = claim.evaluate(family.tensor(name, side, seed, decompose))
        return [_leading(basis, k) if isinstance(basis, Basis) else None for basis in claims]

    claims = dict(zip(names, track("bases", parallel_map(of_tensor, names), len(names)), strict=True))
    _check_subspace(hypothesis, fraction, family, claims)
    stacks = {name for name in names if len(family.aligned.shapes[name]) == 3}
    return _write(out, About(hypothesis, fraction, side, seed, {}), claims, stacks)


def write_random_protection(like: Path, seed: int, out: Path) -> ProtectedBases:
    """Write Haar-random bases of the same matrices, sides and ranks as those of another file.

    Matrices that have the same basis there, as the refusal direction has in the whole residual stream, get the same
    random basis; all others get independent ones.

    Args:
        like: a file of bases.
        seed: of the draw.
        out: the file; an existing one is replaced.
    """
    known = ProtectedBases(like)
    drawn: dict[bytes, torch.Tensor] = {}

    def draw(columns: torch.Tensor | None, name: str) -> torch.Tensor | None:
        if columns is None or not columns.shape[1]:
            return columns
        key = hashlib.sha256(columns.numpy().tobytes() + str(tuple(columns.shape)).encode()).digest()
        if key not in drawn:
            drawn[key] = random_basis((columns.shape[0], columns.shape[1]), seed, f"protection/{name}")
        return drawn[key]

    claims, stacks = {}, set()
    for tensor in track("bases", known.tensors, len(known.tensors)):
        labels = known.labels(tensor)
        if labels != [tensor]:
            stacks.add(tensor)
        claims[tensor] = [
            None if basis is None else Basis(draw(basis.left, f"{label}/output"), draw(basis.right, f"{label}/input"))
            for label, basis in zip(labels, known.claims(tensor), strict=True)
        ]
    return _write(out, replace(known.about, hypothesis="random", seed=seed), claims, stacks)


def check_free_memory(needed: int, device: torch.device) -> None:
    """Check that what a protected training holds beside the model fits into memory.

    Raises:
        ConfigError: fewer bytes are free.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed > free:
        raise ConfigError(
            f"protect: the bases, and a copy of the start of what is trained whole, need {needed / 1e9:.3g} GB beside "
            f"the model, and {free / 1e9:.3g} GB are free ({device.type}): lower the fraction, train with lora, or use "
            "a machine with more memory"
        )


def _leading(basis: Basis, k: int) -> Basis:
    """The first k directions, in their order, on the CPU."""

    def first(columns: torch.Tensor | None, order: torch.Tensor | None) -> torch.Tensor | None:
        if columns is None:
            return None
        chosen = columns[:, :k] if order is None else columns[:, order[:k].to(columns.device)]
        return chosen.float().cpu().clone(memory_format=torch.contiguous_format)

    return Basis(first(basis.left, basis.left_order), first(basis.right, basis.right_order))


def _check_subspace(name: str, fraction: float, family: Family, claims: Mapping[str, Sequence[Basis | None]]) -> None:
    """Refuse a claim about no matrix, one without a direction, and one that leaves nothing outside."""
    every = [basis for of_tensor in claims.values() for basis in of_tensor]
    sides = [
        [side for side in (basis.left, basis.right) if side is not None] if basis else [torch.empty(1, 0)]
        for basis in every
    ]
    if not any(every):
        raise ConfigError(
            f"{name!r} is not measurable: it names no matrix of {family.aligned.name}; name another claim"
        )
    if not any(columns.numel() for matrix in sides for columns in matrix):
        raise ConfigError(
            f"{name!r} has no direction in any matrix of {family.aligned.name}: the update that it is made from is zero"
        )
    if all(columns.shape[0] == columns.shape[1] for matrix in sides for columns in matrix):
        raise ConfigError(
            f"{name!r} at fraction {fraction:g} spans every matrix of {family.aligned.name}: outside it nothing could "
            "be trained, and inside it everything; lower the fraction"
        )


def _write(
    out: Path, about: About, claims: Mapping[str, Sequence[Basis | None]], stacks: Collection[str]
) -> ProtectedBases:
    tensors: dict[str, torch.Tensor] = {}
    ranks: dict[str, Ranks] = {}
    for tensor, bases in claims.items():
        if not any(bases):
            continue
        known = {
            "left": [basis.left if basis else None for basis in bases],
            "right": [basis.right if basis else None for basis in bases],
        }
        for side, columns in known.items():
            if any(part is not None for part in columns):
                padded = _padded(columns)
                tensors[f"{side}/{tensor}"] = padded if tensor in stacks else padded[0]
        ranks[tensor] = Ranks(*([None if p is None else p.shape[1] for p in columns] for columns in known.values()))
    text = json.dumps(asdict(replace(about, ranks=ranks)))
    with atomic_path(out) as part:
        save_file(tensors, part, metadata={_ABOUT: text})  # one field: several are written in any order
    return ProtectedBases(out)


def _padded(columns: Sequence[torch.Tensor | None]) -> torch.Tensor:
    """[E, m, k] with columns of zeros behind those of a matrix of smaller rank."""
    given = [part for part in columns if part is not None]
    stacked = torch.zeros(len(columns), given[0].shape[0], max(part.shape[1] for part in given))
    for whole, part in zip(stacked, columns, strict=True):
        if part is not None:
            whole[:, : part.shape[1]] = part
    return stacked
