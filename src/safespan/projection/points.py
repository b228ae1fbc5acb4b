"""The weights of one point of the grid after another, in memory that does not grow with the model's depth."""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from safespan.checkpoints import Checkpoint
from safespan.kernels import squared_norm
from safespan.pool import device, side_by_side
from safespan.projection.family import Family, Point, ProjectionGrid
from safespan.projection.tensor import applied, directions, projections
from safespan.subspaces import Basis, Decompose, decompose, rank_of_fraction
from safespan.updates import matrices, update


class AddedWeights(ABC):
    """W_A and what a point adds to it, for points in any order.

    Args:
        aligned: W_A.
    """

    def __init__(self, aligned: Checkpoint) -> None:
        """Nothing was taken yet."""
        self._aligned = aligned
        self.energy = float("nan")
        """‖·‖²_F of what the last point added whose weights were all taken."""

    @abstractmethod
    def changes(self, point: Any) -> Iterator[tuple[str, torch.Tensor]]:
        """(name, what is added to W_A in float32) of every tensor at one point."""

    def of(self, point: Any) -> Iterator[tuple[str, torch.Tensor]]:
        """(name, weight in float32) of every tensor at one point."""
        energy = 0.0
        for name, change in self.changes(point):
            energy += squared_norm(change)
            yield name, change + self._aligned.load(name).to(change)
        self.energy = energy


class PointWeights(AddedWeights):
    """Makes W_A + P, W_A + Δ_T − P or W_A − P, tensor by tensor, for points in any order.

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
        super().__init__(family.aligned)
        self._family, self._side, self._seed, self._decompose = family, grid.side, seed, decompose
        self._fractions = sorted(grid.fractions)
        self._names = family.names()
        self._scratch = TemporaryDirectory(dir=scratch, prefix=".directions-")
        self._folder = Path(self._scratch.name)
        self._made: tuple[str, str] | None = None
        self._ranks: dict[str, int] = {}
        self.sides: dict[str, tuple[bool, bool]] = {}
        """Tensor -> whether the bases made last lie in its outputs, and in its inputs."""

    def close(self) -> None:
        """Remove the files."""
        self._scratch.cleanup()

    def changes(self, point: Point) -> Iterator[tuple[str, torch.Tensor]]:
        """(name, what is added to W_A in float32) of every tensor at one point."""
        pair = (point.finetune, point.subspace)
        if self._made != pair:
            self._made, self._ranks = None, {}
            for _ in side_by_side(lambda name: self._make(name, *pair), self._names):
                pass
            self._made = pair
        for name in self._names:
            inside = self._inside(name, point.fraction)
            if point.method != "parallel":
                inside = applied(point.method, self._delta(name, point.finetune), inside)
            yield name, inside

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
        self.sides[name] = any("left" in part for part in kept), any("right" in part for part in kept)
        save_file({part: tensor.cpu().contiguous() for part, tensor in kept.items()}, self._place(name, "safetensors"))
        _reserve(self._place(name, "inside"), 4 * math.prod(projection.shape))

    def _inside(self, name: str, fraction: float) -> torch.Tensor:
        """P at one fraction."""
        shape = self._family.aligned.shapes[name]
        with safe_open(self._place(name, "safetensors"), framework="pt") as file:
            kept: dict[str, torch.Tensor] = {part: file.get_tensor(part).to(device()) for part in file.keys()}  # noqa: SIM118 - not a dict
        if "line" in kept:
            return kept["line"]
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
        return stored.to(device())

    def _place(self, name: str, suffix: str) -> Path:
        return self._folder / f"{self._names.index(name)}.{suffix}"


def _reserve(path: Path, size: int) -> None:
    """Make an empty file with its blocks taken: a full disk would end a process that writes to a mapped file."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(file.fileno(), 0, max(1, size))
        else:
            file.truncate(size)
