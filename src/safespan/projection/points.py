"""The weights of the points of the grid, in memory that does not grow with the depth of the model."""

import math
import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file

from safespan.linalg.device import device
from safespan.linalg.parallel import parallel_map
from safespan.linalg.stacks import matrices
from safespan.projection.family import Family
from safespan.projection.tensor import TensorProjection, applied, directions
from safespan.results.tables import GridPoint
from safespan.settings.analysis import ProjectionGrid
from safespan.subspaces import Basis, Decompose, decompose, rank_of_fraction


class Change(NamedTuple):
    """The change of one tensor of W_A at a point.

    Attributes:
        name: of the tensor.
        tensor: the summand, float32, in the shape of the tensor.
        sides: whether it was made with bases of the outputs, and of the inputs.
    """

    name: str
    tensor: torch.Tensor
    sides: tuple[bool, bool]


class PointWeights:
    """Computes P, Δ − P or −P of updates Δ, tensor by tensor, for points in any order.

    Consecutive points of one fine-tune and subspace share the basis and its coefficients, in files, and P, in a file
    mapped into memory, to which a larger fraction adds directions. P always grows through every fraction of the grid,
    so that the weights of a point are the same bits in any order of points.

    Args:
        family: the checkpoints.
        grid: the grid of the points.
        scratch: an existing folder for files of about three times the model's size in float32, removed at `close`.
        decompose: how updates are decomposed; a cache's if it should remember.
        projected: gives what is projected, for the name of a tensor and a point's `finetune`; by default Δ_T.
    """

    def __init__(
        self,
        family: Family,
        grid: ProjectionGrid,
        scratch: Path,
        decompose: Decompose = decompose,
        projected: Callable[[str, str], torch.Tensor] | None = None,
    ) -> None:
        self._family, self._side, self._decompose = family, grid.side, decompose
        self._of_updates, self._projected = projected is None, projected or family.task_update
        self._fractions = sorted(grid.fractions)
        self._names = family.names()
        self._scratch = TemporaryDirectory(dir=scratch, prefix=".directions-")
        self._folder = Path(self._scratch.name)
        self._made: tuple[str, str, int] | None = None
        self._ranks: dict[str, int] = {}

    def close(self) -> None:
        """Remove the files."""
        self._scratch.cleanup()

    def changes(self, point: GridPoint) -> Iterator[Change]:
        """The changes of all tensors of W_A at one point."""
        shared = (point.finetune, point.subspace, point.seed)
        if self._made != shared:
            self._made, self._ranks = None, {}
            for _ in parallel_map(lambda name: self._make(name, *shared), self._names):
                pass
            self._made = shared
        for name in self._names:
            inside, sides = self._inside(name, point.fraction)
            if point.method != "parallel":
                inside = applied(point.method, self._projected(name, point.finetune), inside)
            yield Change(name, inside, sides)

    def _make(self, name: str, finetune: str, subspace: str, seed: int) -> None:
        """Write the vectors and coefficients of one tensor, in the order of the basis."""
        of_task = finetune if self._of_updates else None
        along = directions(self._family.tensor(name, self._side, seed, self._decompose, of_task), subspace)
        projection = TensorProjection(self._projected(name, finetune), along)
        kept: dict[str, torch.Tensor] = {} if projection.line is None else {"line": projection.line}
        for number, (basis, unordered) in enumerate(zip(projection.bases, projection.coefficients, strict=True)):
            ordered, coefficients = basis.in_order(unordered)
            tensors = {"left": ordered.left, "right": ordered.right, "coefficients": coefficients}
            kept |= {f"{label} {number}": tensor for label, tensor in tensors.items() if tensor is not None}
        file = self._path(name, "safetensors")
        save_file({label: tensor.cpu().contiguous() for label, tensor in kept.items()}, file)
        _reserve(self._path(name, "inside"), 4 * math.prod(projection.shape))

    def bases(self, name: str) -> list[Basis]:
        """The bases of the matrices of one tensor at the last point; none if it is 1-D."""
        kept = self._kept(name)
        labels = (f"{number}" for number in range(len(kept)))
        bases = [Basis(kept.get(f"left {label}"), kept.get(f"right {label}")) for label in labels]
        return [basis for basis in bases if basis.left is not None or basis.right is not None]

    def _kept(self, name: str) -> dict[str, torch.Tensor]:
        kept: dict[str, torch.Tensor] = load_file(self._path(name, "safetensors"), device().type)
        return kept

    def _inside(self, name: str, fraction: float) -> tuple[torch.Tensor, tuple[bool, bool]]:
        """P at one fraction, and the sides of its bases."""
        shape = self._family.aligned.shapes[name]
        kept = self._kept(name)
        if "line" in kept:
            return kept["line"], (False, False)
        size = (shape[-2], shape[-1])
        ranks = [rank_of_fraction(smaller, size) for smaller in self._fractions if smaller <= fraction]
        rank = self._ranks.get(name, 0)
        if "left 0" in kept and "right 0" in kept:  # with two bases, P cannot be extended by single directions
            rank, ranks = 0, ranks[-1:]
        elif rank > ranks[-1]:
            rank = 0
        path = str(self._path(name, "inside"))
        stored: torch.Tensor = torch.from_file(path, shared=True, size=math.prod(shape)).view(shape)
        for number, inside in enumerate(matrices(stored)):
            basis = Basis(kept.get(f"left {number}"), kept.get(f"right {number}"))
            for start, k in pairwise([rank, *(larger for larger in ranks if larger > rank)]):
                change = basis.parallel(kept[f"coefficients {number}"], k, start).cpu()
                inside.copy_(inside + change if start else change)
        self._ranks[name] = ranks[-1]
        return stored.to(device()), ("left 0" in kept, "right 0" in kept)

    def _path(self, name: str, suffix: str) -> Path:
        return self._folder / f"{self._names.index(name)}.{suffix}"


def _reserve(path: Path, size: int) -> None:
    """Make an empty file with allocated blocks: on a full disk, a write to a mapped file would kill the process."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(file.fileno(), 0, max(1, size))
        else:
            file.truncate(size)
