"""Followers of the refusal direction (abliteration): orthogonal to the harmless mean, and with norms of rows kept."""

import torch
from jaxtyping import Float

from safespan.subspaces.hypotheses.refusal_direction import ranked, refusal_direction, remark_of, written
from safespan.subspaces.hypothesis import hypothesis
from safespan.subspaces.sides import Basis
from safespan.subspaces.weight_matrix import WeightMatrix

_PROJECTED = "https://huggingface.co/blog/grimjim/projected-abliteration"
_NORMS = "https://huggingface.co/blog/grimjim/norm-preserving-biprojected-abliteration"
"""The articles that make these claims; the direction itself is of `refusal-direction`."""

_LEAST = 1e-6
"""Share of r that has to be left beside the harmless mean: less is rounding, and no direction."""


@hypothesis(
    "refusal-direction-orthogonal",
    claim="as `refusal-direction`, without its part along the mean activation on harmless prompts",
    paper=_PROJECTED,
    needs=["prompts"],
    removes="weights",
    authors_tests=["ablation"],
    remark=remark_of,
)
def refusal_direction_orthogonal(matrix: WeightMatrix) -> Basis | None:
    """r − (r·û) û, at length one; û is the mean of the useful prompts at the layer of `refusal-direction`, likewise."""
    return _orthogonal(matrix)


@hypothesis(
    "refusal-direction-norms",
    claim="as `refusal-direction`, and each row of a changed matrix keeps its norm",
    paper=_NORMS,
    needs=["prompts"],
    removes="rows",
    authors_tests=["ablation"],
    remark=remark_of,
)
def refusal_direction_norms(matrix: WeightMatrix) -> Basis | None:
    """r̂ of `refusal-direction`, taken out of the rows of W_A as unit vectors."""
    basis = refusal_direction.function(matrix)
    return basis if isinstance(basis, Basis) else None


@hypothesis(
    "refusal-direction-orthogonal-norms",
    claim="as `refusal-direction-orthogonal`, and each row of a changed matrix keeps its norm",
    paper=_NORMS,
    needs=["prompts"],
    removes="rows",
    authors_tests=["ablation"],
    remark=remark_of,
)
def refusal_direction_orthogonal_norms(matrix: WeightMatrix) -> Basis | None:
    """The direction of `refusal-direction-orthogonal`, taken out of the rows of W_A as unit vectors."""
    return _orthogonal(matrix)


def _orthogonal(matrix: WeightMatrix) -> Basis | None:
    candidates = matrix.refusal_candidates()
    if not candidates:
        return None
    layer = ranked(candidates)[0]
    direction = candidates[layer].direction.double()
    rest = without(direction, matrix.residual_after("useful", layer).double().mean(0))
    if rest.norm() <= _LEAST * direction.norm():
        return None
    return written(matrix, (rest / rest.norm())[:, None].float())


def without(direction: Float[torch.Tensor, " d"], mean: Float[torch.Tensor, " d"]) -> Float[torch.Tensor, " d"]:
    """r − (r·û) û, with û = mean / ‖mean‖; r where the mean is zero."""
    square = mean @ mean
    return direction - (direction @ mean) / square * mean if square > 0 else direction
