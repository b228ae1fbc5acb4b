"""The refusal direction (Arditi et al.): refusal is mediated by one direction of the residual stream."""

import torch

from safespan.checkpoints import writes_residual_stream
from safespan.errors import HypothesisError
from safespan.statistics.auroc import auroc
from safespan.subspaces.hypothesis import WeightMatrix, hypothesis
from safespan.subspaces.sides import Basis

_DEPTH = 0.8
"""Share of the layers that directions come from: the last ones are left out, as in the paper."""


@hypothesis(
    "refusal-direction",
    claim="refusal is one direction: the difference of the mean activations on harmful and on harmless prompts",
    paper="https://arxiv.org/abs/2406.11717",
    needs=["prompts"],
    removes="weights",
)
def refusal_direction(matrix: WeightMatrix) -> Basis | None:
    """r̂ of the layer that separates held-out prompts best, on the side of each matrix in the residual stream."""
    direction, _ = max(directions(matrix).values(), key=lambda layer: layer[1])
    return written(matrix, direction[:, None])


@hypothesis(
    "refusal-directions",
    claim="refusal is a subspace: the differences of means of all layers together",
    paper="https://arxiv.org/abs/2406.11717",
    needs=["prompts"],
    removes="weights",
)
def refusal_directions(matrix: WeightMatrix) -> Basis | None:
    """An orthonormal basis of the directions of all layers, the best layer's first."""
    ranked = sorted(directions(matrix).values(), key=lambda layer: layer[1], reverse=True)
    best_first = [direction.double() for direction, _ in ranked]
    left = best_first[0].new_empty(len(best_first[0]), 0)
    for direction in best_first:
        rest = direction - left @ (left.T @ direction)
        if rest.norm() > 1e-3:  # else it is a combination of the others
            left = torch.cat([left, rest[:, None] / rest.norm()], 1)
    return written(matrix, left.float())


def directions(matrix: WeightMatrix) -> dict[int, tuple[torch.Tensor, tuple[float, float]]]:
    """Layer -> unit difference of means on one half of the prompts, and how well it separates the other half.

    The latter is its AUROC and, as many layers have an AUROC of 1, the distance of the means in standard deviations.
    """
    harmful, useful = (matrix.residual_stream(prompts) for prompts in ("harmful", "useful"))
    last = max(1, int(_DEPTH * max(harmful)))
    by_layer = {}
    for layer in range(1, last + 1):
        (train_h, test_h), (train_u, test_u) = halves(harmful[layer]), halves(useful[layer])
        difference = train_h.mean(0) - train_u.mean(0)
        direction = difference / difference.norm().clamp(min=1e-12)
        high, low = test_h @ direction, test_u @ direction
        spread = ((high.var() + low.var()) / 2).sqrt().clamp(min=1e-12)
        area = float(auroc(high.cpu().numpy(), low.cpu().numpy()))
        by_layer[layer] = direction, (area, float((high.mean() - low.mean()) / spread))
    return by_layer


def halves(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Every other row, and the rest.

    Raises:
        HypothesisError: fewer than four rows.
    """
    if len(rows) < 4:
        raise HypothesisError(f"a difference of means needs at least 4 prompts of each class, given {len(rows)}")
    return rows[::2], rows[1::2]


def written(matrix: WeightMatrix, directions: torch.Tensor) -> Basis | None:
    """Directions of the residual stream as a basis of a matrix that writes to it; None for any other matrix."""
    side = writes_residual_stream(matrix.name)
    if side is None:
        return None
    return Basis(directions, None) if side == "output" else Basis(None, directions)
