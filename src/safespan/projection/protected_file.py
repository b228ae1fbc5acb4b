"""The file of a protection: bases of a subspace or of a penalty for every matrix, or the blocks that are frozen."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from safespan.errors import CheckpointError
from safespan.files.atomic import atomic_path
from safespan.linalg.stacks import matrix_names
from safespan.settings.names import Side
from safespan.subspaces import Basis, Penalty

_SIDES = ("left", "right")
_ABOUT = "protection"
_VALUES = "values"


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
    """The origin of a file of bases, and what it holds beside them.

    Attributes:
        hypothesis: the claim; `random`: a control.
        fraction: f; None of a penalty.
        side: of bases of singular vectors.
        seed: of random choices.
        ranks: by tensor.
        blocks: of a claim of kind `blocks`, every block of the model and its tensors.
        frozen: the blocks that are frozen; empty: bases are protected, or a penalty is on the update.
        penalty: λ of a penalty; None: what is there is protected.
    """

    hypothesis: str
    fraction: float | None
    side: Side
    seed: int
    ranks: Mapping[str, Ranks] = field(default_factory=dict)
    blocks: Mapping[str, list[str]] = field(default_factory=dict)
    frozen: list[str] = field(default_factory=list)
    penalty: float | None = None


class ProtectedBases:
    """Reads a file of bases, tensor by tensor.

    The file holds `left/TENSOR` [m, k] and `right/TENSOR` [n, k] with orthonormal columns in float32; [E, m, k] and
    [E, n, k] of a stack, where a matrix of smaller rank has columns of zeros behind its own. Of a penalty
    `values/TENSOR` [k] or [E, k] stands beside `left`. Of frozen blocks there are no tensors in it, but their names.

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
        frozen = [tensor for block in self.about.frozen for tensor in self.about.blocks[block]]
        return sorted([*self.about.ranks, *frozen])

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

    def penalties(self, tensor: str, device: torch.device | None = None) -> list[Penalty | None]:
        """The penalty on each matrix of a tensor, of a file that has them; None where nothing is claimed."""
        stored = self.values(tensor).to(device)
        values = stored if stored.ndim == 2 else stored[None]
        return [
            None if basis is None or basis.left is None else Penalty(basis.left, own[: basis.left.shape[1]])
            for basis, own in zip(self.claims(tensor, device), values, strict=True)
        ]

    def values(self, tensor: str) -> torch.Tensor:
        """[k] or [E, k]: c of a penalty on a tensor, with zeros behind those of a matrix of smaller rank."""
        with safe_open(self.path, framework="pt") as file:
            values: torch.Tensor = file.get_tensor(f"{_VALUES}/{tensor}")
        return values

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


def write_file(
    out: Path,
    about: About,
    claims: Mapping[str, Sequence[Basis | None]],
    stacks: Collection[str],
    values: Mapping[str, torch.Tensor] | None = None,
) -> ProtectedBases:
    """Write a file that `ProtectedBases` reads.

    Args:
        out: the file; an existing one is replaced.
        about: its origin; the ranks are those of the claims.
        claims: bases of every matrix by tensor.
        stacks: tensors that are stacks of matrices.
        values: of a penalty, c of every matrix by tensor.
    """
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
        if values is not None:
            tensors[f"{_VALUES}/{tensor}"] = values[tensor]
    text = json.dumps(asdict(replace(about, ranks=ranks)))
    with atomic_path(out) as part:
        save_file(tensors, part, metadata={_ABOUT: text})  # one field: several are written in any order
    return ProtectedBases(out)


def padded_values(values: Sequence[torch.Tensor | None], stacked: bool) -> torch.Tensor:
    """[E, k], or [k] of a matrix that is no stack, with zeros behind those of a matrix of smaller rank."""
    columns = _padded([None if part is None else part[None].float().cpu() for part in values])[:, 0]
    return columns if stacked else columns[0]


def _padded(columns: Sequence[torch.Tensor | None]) -> torch.Tensor:
    """[E, m, k] with columns of zeros behind those of a matrix of smaller rank."""
    given = [part for part in columns if part is not None]
    stacked = torch.zeros(len(columns), given[0].shape[0], max(part.shape[1] for part in given))
    for whole, part in zip(stacked, columns, strict=True):
        if part is not None:
            whole[:, : part.shape[1]] = part
    return stacked
