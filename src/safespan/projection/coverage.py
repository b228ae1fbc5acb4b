"""How much of a model a claim speaks of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from safespan.linalg.kernels import squared_norm
from safespan.linalg.parallel import parallel_map
from safespan.linalg.stacks import matrices, matrix_names
from safespan.projection.edits import edited_matrix, lowest
from safespan.projection.family import Family
from safespan.projection.frozen import claimed_blocks, leading_run
from safespan.settings.names import Side
from safespan.subspaces import Basis, Decompose, Edit, Hypothesis, rank_of_fraction


@dataclass(frozen=True)
class Coverage:
    """The matrices that a claim names, and their energy.

    Attributes:
        matrices_named: matrices with at least one direction or a penalty, of a block that is frozen, or whose update an
            edit changes at the largest fraction.
        matrices: of the model.
        energy_named: share of ‖Δ‖²_F, over all tensors, that lies in the named matrices; NaN where Δ = 0.
        energy_held: share of ‖Δ‖²_F in the subspace itself at the largest fraction; NaN of other claims.
    """

    matrices_named: int
    matrices: int
    energy_named: float
    energy_held: float


class _Part(NamedTuple):
    """A matrix, or a 1-D tensor: whether it is named, its energy, and that in the subspace."""

    label: str
    named: bool
    energy: float
    held: float


def coverage(
    family: Family,
    hypothesis: Hypothesis,
    delta: Callable[[str], torch.Tensor],
    finetune: str | None,
    fraction: float,
    side: Side,
    seed: int,
    decompose: Decompose,
) -> Coverage:
    """What a claim names of a model.

    Args:
        family: the checkpoints.
        hypothesis: the claim.
        delta: gives Δ of a tensor: an update, or the weights.
        finetune: whose Δ_T an edit changes.
        fraction: the largest of the test.
        side: of the bases of singular vectors.
        seed: of random choices.
        decompose: how updates are decomposed.
    """

    scores: dict[str, float] = {}

    def parts(name: str) -> list[_Part]:
        """Of every matrix, or of a 1-D tensor."""
        tensor, update = family.tensor(name, side, seed, decompose, finetune), delta(name)
        labels = matrix_names(name, tuple(update.shape))
        if update.ndim < 2:
            return [_Part(name, False, squared_norm(update), 0.0)]
        if hypothesis.kind == "blocks":
            return [
                _Part(label, name in frozen, squared_norm(matrix), 0.0)
                for label, matrix in zip(labels, matrices(update), strict=True)
            ]
        named = []
        for label, claim, matrix in zip(labels, hypothesis.evaluate(tensor), matrices(update), strict=True):
            there, held = claim is not None, 0.0
            if isinstance(claim, Edit):
                scores[label] = claim.score
                there = not torch.equal(edited_matrix(hypothesis, matrix, claim, fraction), matrix)
            if isinstance(claim, Basis):
                known = claim.energies(claim.coefficients(matrix))
                there = len(known) > 0
                rank = min(rank_of_fraction(fraction, (matrix.shape[0], matrix.shape[1])), len(known))
                held = float(known[rank - 1]) if there else 0.0
            named.append(_Part(label, there, squared_norm(matrix), held))
        return named

    names, frozen = family.names(), set[str]()
    if hypothesis.kind == "blocks":
        blocks = claimed_blocks(family, hypothesis, side, seed, decompose)
        frozen = {one for number in leading_run(blocks.scores, fraction) for one in blocks.tensors[number]}
    by_tensor = list(parallel_map(parts, names))
    every = [part for tensor in by_tensor for part in tensor]
    if hypothesis.kind == "layers":
        in_order = {part.label: scores[part.label] for part in every if part.label in scores}
        edited = lowest(in_order, fraction)
        every = [part._replace(named=part.named and part.label in edited) for part in every]
    whole = sum(part.energy for part in every)
    shapes = family.aligned.shapes
    total = sum(len(tensor) for name, tensor in zip(names, by_tensor, strict=True) if len(shapes[name]) > 1)
    nan = float("nan")
    return Coverage(
        matrices_named=sum(part.named for part in every),
        matrices=total,
        energy_named=sum(part.energy for part in every if part.named) / whole if whole else nan,
        energy_held=sum(part.held for part in every) / whole if whole and hypothesis.kind == "subspace" else nan,
    )
