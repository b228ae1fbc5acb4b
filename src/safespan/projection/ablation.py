"""The weights of the ablation test: the aligned model without what a claim names, and random controls (METHODS §7)."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch

from safespan.linalg.kernels import squared_norm
from safespan.linalg.stacks import matrices, unit_rows
from safespan.projection.family import Family
from safespan.projection.points import Change, PointWeights
from safespan.results.claim_tables import AblationPoint
from safespan.results.tables import GridPoint
from safespan.settings.analysis import ProjectionGrid
from safespan.settings.names import Side
from safespan.subspaces import Basis, Decompose, Hypothesis, decompose, find_hypothesis, random_part


def ablation_points(hypothesis: Hypothesis, fractions: Sequence[float], draws: int) -> list[AblationPoint]:
    """The points of one hypothesis at full strength; those without a draw come before their controls."""
    own = [AblationPoint(hypothesis.name, fraction, 1.0, None) for fraction in sorted(fractions)]
    return own + [replace(point, draw=draw) for point, draw in product(own, range(draws))]


class AblationWeights:
    """Computes the changes −α R_f of W_A at ablation points, tensor by tensor, in any order.

    R_f is the part of W_A, or of Δ_A, in the first directions of the claim, as the hypothesis declares (`removes`).
    Where it declares `rows`, R_f is taken out of the rows of W_A as unit vectors, and each gets its old norm back. A
    control removes a random part of the same energy, matrix by matrix, on the same side. Matrices with the very same
    basis, such as those that write to the residual stream, share the directions of their control too. Every hypothesis
    has draws of its own. 1-D tensors are left as they are.

    Args:
        family: the checkpoints; base only where Δ_A is needed.
        fractions: of all points.
        side: of the bases of singular vectors.
        seed: of the random choices.
        scratch: an existing folder for files that are removed at `close`.
        decompose: how updates are decomposed.
    """

    def __init__(
        self,
        family: Family,
        fractions: Sequence[float],
        side: Side,
        seed: int,
        scratch: Path,
        decompose: Decompose = decompose,
    ) -> None:
        grid = ProjectionGrid(fractions=tuple(fractions), side=side)
        self._parts = PointWeights(family, grid, scratch, decompose, family.removable)
        self._family, self._seed = family, seed
        self._matched: tuple[tuple[str, float], dict[str, list[_Removed]]] = (("", 0.0), {})

    def close(self) -> None:
        """Remove the files."""
        self._parts.close()

    def changes(self, point: AblationPoint) -> Iterator[Change]:
        """The changes of all tensors of W_A at one point."""
        removes = _removes(point)
        if point.draw is None:
            for name, part, sides in self._own(point):
                yield Change(name, taken_out(self._family, name, removes, point.strength * part), sides)
            return
        for name, removed in self._removed(point).items():
            change = self._family.removable(name, removes)
            if change.ndim < 2:
                change.zero_()
            for matrix, (energy, spaces) in zip(matrices(change), removed, strict=True):
                output, inputs = (
                    None if space is None else f"{point.hypothesis}/{space}/{point.draw}" for space in spaces
                )
                matrix.copy_(point.strength * random_part(matrix, energy, (output, inputs), self._seed))
            named = [[one.spaces[side] is not None for one in removed] for side in (0, 1)]
            yield Change(name, taken_out(self._family, name, removes, change), (any(named[0]), any(named[1])))

    def _own(self, point: AblationPoint) -> Iterator[Change]:
        """R_f of all tensors."""
        place = GridPoint(_removes(point), point.hypothesis, "parallel", point.fraction, self._seed)
        for name, part, sides in self._parts.changes(place):
            yield Change(name, part if part.ndim > 1 else torch.zeros_like(part), sides)

    def _removed(self, point: AblationPoint) -> dict[str, list["_Removed"]]:
        """What controls have to match of every matrix, by tensor."""
        key = (point.hypothesis, point.fraction)
        if self._matched[0] != key:
            by_tensor = {}
            for name, part, _ in self._own(point):
                pairs = zip(matrices(part), self._parts.bases(name), strict=True)
                by_tensor[name] = [_Removed(squared_norm(matrix), spaces_of(basis)) for matrix, basis in pairs]
            self._matched = (key, by_tensor)
        return self._matched[1]


def taken_out(family: Family, name: str, removes: str, part: torch.Tensor) -> torch.Tensor:
    """The change of W_A where this part of what is removable is taken out, of a claim and of a control alike."""
    if removes != "rows" or part.ndim < 2:
        return -part
    weights = family.removable(name, "weights")
    before = unit_rows(weights)
    after = before - part
    kept = after.norm(dim=-1, keepdim=True) > _LEAST_LEFT
    turned = torch.where(kept, unit_rows(after), after) - before
    touched = part.any(dim=-1, keepdim=True)  # elsewhere only rounding would be left
    change: torch.Tensor = turned * weights.norm(dim=-1, keepdim=True) * touched
    return change


_LEAST_LEFT = 1e-4
"""Share of a row's norm below which what is left of it is rounding, and is not brought back to the old norm."""


class _Removed(NamedTuple):
    """The energy ‖R_f‖²_F of one matrix, and the names of the spaces that its directions span."""

    energy: float
    spaces: tuple[str | None, str | None]


def spaces_of(basis: Basis) -> tuple[str | None, str | None]:
    """Names of the left and of the right side of a basis: equal names mean the same directions, bit for bit."""
    return _digest(basis.left), _digest(basis.right)


def _digest(columns: torch.Tensor | None) -> str | None:
    return None if columns is None else hashlib.sha256(columns.cpu().contiguous().numpy().tobytes()).hexdigest()


def _removes(point: AblationPoint) -> str:
    removes = find_hypothesis(point.hypothesis).removes
    assert removes is not None
    return removes
