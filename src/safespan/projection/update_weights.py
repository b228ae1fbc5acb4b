"""The weights of a test: those of a hypothesis at every fraction, and random controls of the same energy."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch

from safespan.linalg.kernels import squared_norm
from safespan.linalg.stacks import matrices, matrix_names
from safespan.projection.edits import Edits
from safespan.projection.family import Family
from safespan.projection.points import Change, PointWeights
from safespan.results.claim_tables import UpdatePoint
from safespan.results.tables import GridPoint
from safespan.settings.analysis import ProjectionGrid
from safespan.settings.names import EDIT, Side, check_shares
from safespan.subspaces import Decompose, Hypothesis, RandomRotation, decompose, find_hypothesis, random_part

_OUTPUTS = (True, False)
"""The side of the controls of an edit."""


def update_points(
    hypothesis: Hypothesis, finetunes: Sequence[str], fractions: Sequence[float], draws: int
) -> list[UpdatePoint]:
    """All points of one hypothesis; those without a draw come before their controls."""
    check_shares("fraction", fractions)
    methods = ("parallel", "orthogonal") if hypothesis.kind == "subspace" else (EDIT,)
    points = []
    for method, finetune in product(methods, finetunes):
        first = [UpdatePoint(finetune, hypothesis.name, method, fraction, None) for fraction in sorted(fractions)]
        points += [*first, *(replace(point, draw=draw) for point in first for draw in range(draws))]
    return points


@dataclass(frozen=True)
class _Kept:
    """The energy that a hypothesis keeps of one tensor.

    Attributes:
        sides: of the basis and of the controls, by fine-tune: outputs, inputs.
        inside: ‖P‖²_F of each matrix, a list per fine-tune.
        whole: ‖Δ_T‖²_F of each matrix, a list per fine-tune.
        vectors: the change of a 1-D tensor by fine-tune.
    """

    sides: dict[str, tuple[bool, bool]]
    inside: list[list[float]]
    whole: list[list[float]]
    vectors: dict[str, torch.Tensor]

    def shares(self) -> list[float]:
        """Energy kept of each matrix, over all fine-tunes together."""
        sums = zip(zip(*self.inside, strict=True), zip(*self.whole, strict=True), strict=True)
        return [sum(inside) / sum(whole) if sum(whole) else 0.0 for inside, whole in sums]


class UpdateWeights:
    """Computes the changes of W_A at trial points, tensor by tensor, in any order.

    A control keeps, matrix by matrix, the same energy as the hypothesis: a random part of Δ_T (`random_part`) for the
    method parallel, Δ_T without a random part for orthogonal. It keeps the same share of two fine-tunes, that of both
    together: otherwise a hypothesis that keeps much of one and little of the other would be matched in just that. The
    control of an addition is the same addition under a random rotation of the outputs. 1-D tensors are those of the
    hypothesis. Every hypothesis has draws of its own: shared ones would make the errors of all claims one error.

    Args:
        family: the checkpoints.
        finetunes: of the trial; two of them share their controls.
        fractions: of all points.
        side: of the bases of singular vectors.
        seed: of the random choices.
        scratch: an existing folder for files that are removed at `close`.
        decompose: how updates are decomposed.
    """

    def __init__(
        self,
        family: Family,
        finetunes: Sequence[str],
        fractions: Sequence[float],
        side: Side,
        seed: int,
        scratch: Path,
        decompose: Decompose = decompose,
    ) -> None:
        self._finetunes = finetunes
        self._family, self._seed = family, seed
        self._edits = Edits(family, side, seed, decompose)
        grid = ProjectionGrid(fractions=tuple(fractions), side=side)
        self._subspaces = PointWeights(family, grid, scratch, decompose)
        self._names = family.names()
        self._matched: tuple[UpdatePoint | None, Mapping[str, _Kept]] = (None, {})

    def close(self) -> None:
        """Remove the files."""
        self._subspaces.close()

    def changes(self, point: UpdatePoint) -> Iterator[Change]:
        """The changes of all tensors of W_A at one point."""
        return self._own(point) if point.draw is None else self._control(point, point.draw)

    def _own(self, point: UpdatePoint) -> Iterator[Change]:
        if find_hypothesis(point.hypothesis).kind == "subspace":
            place = GridPoint(point.finetune, point.hypothesis, point.method, point.fraction, self._seed)
            return self._subspaces.changes(place)
        hypothesis = find_hypothesis(point.hypothesis)
        edited = (self._edits.edited(name, hypothesis, point.finetune, point.fraction) for name in self._names)
        return (Change(name, delta, _OUTPUTS) for name, delta in zip(self._names, edited, strict=True))

    def _control(self, point: UpdatePoint, draw: int) -> Iterator[Change]:
        hypothesis = find_hypothesis(point.hypothesis)
        if hypothesis.kind == "addition":
            yield from self._turned(point, draw)
            return
        for name, kept in self._kept(point).items():
            sides = kept.sides[point.finetune]
            if point.finetune in kept.vectors:
                yield Change(name, kept.vectors[point.finetune], sides)
                continue
            delta = self._family.task_update(name, point.finetune)
            labels = matrix_names(name, tuple(delta.shape))
            for label, matrix, share in zip(labels, matrices(delta), kept.shares(), strict=True):
                drawn = f"{point.hypothesis}/{label}/{draw}"
                matrix.copy_(self._matching(matrix, share, point.method, sides, drawn))
            yield Change(name, delta, sides)

    def _matching(
        self, delta: torch.Tensor, share: float, method: str, sides: tuple[bool, bool], name: str
    ) -> torch.Tensor:
        """A random part of Δ with a share of its energy, or Δ without a random part that has the rest of it."""
        whole = squared_norm(delta)
        output, inputs = (
            f"{name}/{side}" if one else None for one, side in zip(sides, ("output", "input"), strict=True)
        )
        if method != "orthogonal":
            return random_part(delta, share * whole, (output, inputs), self._seed)
        rest = delta - random_part(delta, (1 - share) * whole, (output, inputs), self._seed)
        energy = squared_norm(rest)
        rescaled: torch.Tensor = rest * (share * whole / energy) ** 0.5 if energy else rest
        return rescaled

    def _turned(self, point: UpdatePoint, draw: int) -> Iterator[Change]:
        """The addition of the hypothesis under a random rotation."""
        for name, change, sides in self._own(point):
            delta = self._family.task_update(name, point.finetune)
            labels = matrix_names(name, tuple(delta.shape))
            for label, matrix, changed in zip(labels, matrices(delta), matrices(change), strict=True):
                rotation = RandomRotation(matrix.shape[0], self._seed, f"{point.hypothesis}/{label}/{draw}/output")
                matrix += rotation.apply(changed - matrix)
            yield Change(name, delta, sides)

    def _kept(self, point: UpdatePoint) -> Mapping[str, _Kept]:
        """Energies that controls have to match, by tensor: the same share for all fine-tunes of the trial."""
        key = replace(point, draw=None, finetune="")
        if self._matched[0] != key:
            by_tensor: dict[str, _Kept] = {}
            for finetune in dict.fromkeys(self._finetunes):
                for name, change, sides in self._own(replace(key, finetune=finetune)):
                    whole = self._family.task_update(name, finetune)
                    kept = by_tensor.setdefault(name, _Kept({}, [], [], {}))
                    kept.sides[finetune] = sides
                    for energies, tensor in ((kept.inside, change), (kept.whole, whole)):
                        energies.append([squared_norm(matrix) for matrix in matrices(tensor)])
                    if change.ndim < 2:
                        kept.vectors[finetune] = change.clone()
            self._matched = (key, by_tensor)
        return self._matched[1]
