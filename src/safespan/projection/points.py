"""The weights of one point of the grid after another, in memory that does not grow with the model's depth."""

import math
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from safespan.checkpoints.updates import matrices, update
from safespan.linalg.device import device
from safespan.linalg.parallel import parallel_map
from safespan.projection.family import Family, Point
from safespan.projection.tensor import applied, directions, projections
from safespan.settings.analysis import ProjectionGrid
from safespan.subspaces import Basis, Decompose, decompose, rank_of_fraction


class Change(NamedTuple):
    """What a point adds to one tensor of W_A.

    Attributes:
        name: of the tensor.
        tensor: what is added, float32, in the tensor's own shape.
        sides: whether the bases that it was made with lie in the outputs, and in the inputs.
    """

    name: str
    tensor: torch.Tensor
    sides: tuple[bool, bool]


class PointWeights:
    """Makes P, Δ_T − P or −P, tensor by tensor, for points in any order.

    Points of one fine-tune and subspace that follow one another share a basis and its coefficients, which lie in files
    that are mapped into memory, and P, which grows by the directions that a larger fraction adds. It grows through
    every fraction of the grid, so that a point's weights are the same bits wherever one begins.

    Args:
        family: the checkpoints.
        grid: where the points lie.
        seed: of the random subspaces.
        scratch: an existing folder for files of about three times the model's size in float32, removed at `close`.
        decompose: how updates are decomposed; a cache's if it should remember.
    """

    def __init__(
        self, family: Family, grid: ProjectionGrid, seed: int, scratch: Path, decompose: Decompose = decompose
    ) -> None:
        """Make nothing yet."""
        self._family, self._side, self._seed, self._decompose = family, grid.side, seed, decompose
        self._fractions = sorted(grid.fractions)
        self._names = family.names()
        self._scratch = TemporaryDirectory(dir=scratch, prefix=".directions-")
        self._folder = Path(self._scratch.name)
        self._made: tuple[str, str] | None = None
        self._ranks: dict[str, int] = {}

    def close(self) -> None:
        """Remove the files."""
        self._scratch.cleanup()

    def changes(self, point: Point) -> Iterator[Change]:
        """What one point adds to every tensor of W_A."""
        pair = (point.finetune, point.subspace)
        if self._made != pair:
            self._made, self._ranks = None, {}
            for _ in parallel_map(lambda name: self._make(name, *pair), self._names):
                pass
            self._made = pair
        for name in self._names:
            inside, sides = self._inside(name, point.fraction)
            if point.method != "parallel":
                inside = applied(point.method, self._delta(name, point.finetune), inside)
            yield Change(name, inside, sides)

    def _delta(self, name: str, finetune: str) -> torch.Tensor:
        return update(name, self._family.aligned, self._family.finetuned[finetune])

    def _make(self, name: str, finetune: str, subspace: str) -> None:
        """Write the vectors and coefficients of one tensor, in the order in which they are taken."""
        known = directions(self._family.tensor(name, self._side, self._seed, self._decompose), (subspace,))
        [(_, projection)] = projections(self._delta(name, finetune), known)
        kept: dict[str, torch.Tensor] = {} if projection.line is None else {"line": projection.line}
        for number, (basis, unordered) in enumerate(zip(projection.bases, projection.coefficients, strict=True)):
            ordered, coefficients = basis.in_order(unordered)
            parts = {"left": ordered.left, "right": ordered.right, "coefficients": coefficients}
            kept |= {f"{part} {number}": tensor for part, tensor in parts.items() if tensor is not None}
        save_file({part: tensor.cpu().contiguous() for part, tensor in kept.items()}, self._place(name, "safetensors"))
        _reserve(self._place(name, "inside"), 4 * math.prod(projection.shape))

    def _inside(self, name: str, fraction: float) -> tuple[torch.Tensor, tuple[bool, bool]]:
        """P at one fraction, and the sides of its bases."""
        shape = self._family.aligned.shapes[name]
        with safe_open(self._place(name, "safetensors"), framework="pt") as file:
            kept: dict[str, torch.Tensor] = {part: file.get_tensor(part).to(device()) for part in file.keys()}  # noqa: SIM118 - not a dict
        if "line" in kept:
            return kept["line"], (False, False)
        size = (shape[-2], shape[-1])
        ladder = [rank_of_fraction(known, size) for known in self._fractions if known <= fraction]
        before = self._ranks.get(name, 0)
        if "left 0" in kept and "right 0" in kept:  # P grows along two edges at once
            before, ladder = 0, ladder[-1:]
        elif before > ladder[-1]:
            before = 0
        stored: torch.Tensor = torch.from_file(
            str(self._place(name, "inside")), shared=True, size=math.prod(shape)
        ).view(shape)
        for number, inside in enumerate(matrices(stored)):
            basis = Basis(kept.get(f"left {number}"), kept.get(f"right {number}"))
            for start, k in pairwise([before, *(rank for rank in ladder if rank > before)]):
                change = basis.parallel(kept[f"coefficients {number}"], k, start).cpu()
                inside.copy_(inside + change if start else change)
        self._ranks[name] = ladder[-1]
        return stored.to(device()), ("left 0" in kept, "right 0" in kept)

    def _place(self, name: str, suffix: str) -> Path:
        return self._folder / f"{self._names.index(name)}.{suffix}"


def _reserve(path: Path, size: int) -> None:
    """Make an empty file with its blocks taken: a full disk would end a process that writes to a mapped file."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(file.fileno(), 0, max(1, size))
        else:
            file.truncate(size)
