"""The refusal direction (Arditi et al.): refusal is mediated by one direction of the residual stream."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float

from safespan.checkpoints import writes_residual_stream
from safespan.subspaces.captured import CapturedActivations, RefusalCandidate
from safespan.subspaces.hypothesis import hypothesis
from safespan.subspaces.sides import Basis
from safespan.subspaces.weight_matrix import WeightMatrix

_INDUCE, _DIVERGENCE = 0.0, 0.1
"""The paper's bounds (appendix C): refusals are induced above, and harmless answers kept below."""


def early_layers(total: int) -> range:
    """The layers ℓ < 0.8 L that directions come from: later ones are too close to the unembedding (appendix C)."""
    return range(1, -(-4 * total // 5))


def ranked(candidates: Mapping[int, RefusalCandidate]) -> list[int]:
    """Layers, those within the bounds first; of each group, the fewest refusals after ablation first."""
    return sorted(candidates, key=lambda layer: (not _allowed(candidates[layer]), candidates[layer].bypass))


def remark_on(candidates: Mapping[int, RefusalCandidate]) -> str:
    """What differs from the paper in the choice of the layer, in one line; empty if nothing does."""
    if not candidates:
        return (
            "there is no direction: the aligned model refuses fewer than two of the harmful prompts, or "
            "answers fewer than two of the useful ones; verdict.refusals has to hold how its refusals begin"
        )
    layer = ranked(candidates)[0]
    best = candidates[layer]
    if _allowed(best):
        return ""
    return (
        f"no layer is within the paper's bounds, an induced refusal score above {_INDUCE:g} and a divergence below "
        f"{_DIVERGENCE:g}; layer {layer}, whose ablation leaves the fewest refusals, is taken, with {best.induce:.3g} "
        f"and {best.divergence:.3g}"
    )


def remark_of(captured: CapturedActivations) -> str:
    """The same of captured activations, for every claim that takes the layer of `refusal-direction`."""
    return remark_on(captured.refusal_candidates())


def _allowed(candidate: RefusalCandidate) -> bool:
    return candidate.induce > _INDUCE and candidate.divergence < _DIVERGENCE


@hypothesis(
    "refusal-direction",
    claim="refusal is one direction: the difference of the mean activations on harmful and on harmless prompts",
    paper="https://arxiv.org/abs/2406.11717",
    needs=["prompts"],
    removes="weights",
    remark=remark_of,
    authors_tests=["ablation"],
)
def refusal_direction(matrix: WeightMatrix) -> Basis | None:
    """r̂ of the layer whose ablation leaves the fewest refusals, on the side of each matrix in the residual stream.

    Layers within the paper's bounds come first; where there is none, the remark says so.
    """
    candidates = matrix.refusal_candidates()
    if not candidates:
        return None
    direction = candidates[ranked(candidates)[0]].direction
    return written(matrix, direction[:, None] / direction.norm())


@hypothesis(
    "refusal-directions",
    claim="refusal is a subspace: the differences of means of all layers together",
    paper="https://arxiv.org/abs/2406.11717",
    needs=["prompts"],
    removes="weights",
)
def refusal_directions(matrix: WeightMatrix) -> Basis | None:
    """An orthonormal basis of the directions of all early layers, the best layer's first."""
    candidates = matrix.refusal_candidates()
    if not candidates:
        return None
    return written(matrix, orthonormal([candidates[layer].direction for layer in ranked(candidates)]))


def orthonormal(directions: Sequence[Float[torch.Tensor, " d"]]) -> Float[torch.Tensor, "d k"]:
    """An orthonormal basis of one or more directions in their order, without combinations of those before."""
    left = directions[0].new_empty(len(directions[0]), 0).double()
    for direction in map(torch.Tensor.double, directions):
        rest = direction - left @ (left.T @ direction)
        if rest.norm() > 1e-3 * direction.norm():
            left = torch.cat([left, rest[:, None] / rest.norm()], 1)
    return left.float()


def written(matrix: WeightMatrix, directions: torch.Tensor) -> Basis | None:
    """Directions of the residual stream as a basis of a matrix that writes to it; None for any other matrix."""
    side = writes_residual_stream(matrix.name)
    if side is None:
        return None
    return Basis(directions, None) if side == "output" else Basis(None, directions)
