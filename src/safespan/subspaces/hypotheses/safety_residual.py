"""The safety residual space (Pan et al.): several orthogonal directions, in which alignment moves activations."""

import torch
from jaxtyping import Float

from safespan.linalg.kernels import product
from safespan.subspaces.captured import CapturedActivations
from safespan.subspaces.hypotheses.refusal_direction import written
from safespan.subspaces.hypothesis import hypothesis
from safespan.subspaces.sides import Basis
from safespan.subspaces.spectrum import decompose
from safespan.subspaces.weight_matrix import WeightMatrix

_DEPTH = 15 / 32
"""Where the layer is: the paper's code intervenes with that of layer 15 of 32."""

_LEAST = 1e-6
"""Share of the activations that has to be moved: less is rounding, and no direction."""

_KINDS = ("useful", "harmful")


def _remark(captured: CapturedActivations) -> str:
    """Where there are so few prompts that the map fits exactly."""
    rows = [captured.residual_after(kind, middle_layer(captured.layers)) for kind in _KINDS]
    prompts, width = sum(map(len, rows)), rows[0].shape[1]
    if prompts > width:
        return ""
    return (
        f"of {prompts} prompts in {width} dimensions the linear map fits exactly: the space is that of the "
        "differences between the aligned model's activations and base's"
    )


def middle_layer(total: int) -> int:
    """The layer ℓ of 1 … L whose space is taken."""
    return max(1, round(_DEPTH * total))


@hypothesis(
    "safety-residual",
    claim="safety lies in several orthogonal directions: those in which alignment moves activations, by a linear map",
    paper="https://arxiv.org/abs/2502.09674",
    needs=["base", "prompts"],
    removes="weights",
    authors_tests=["ablation"],
    remark=_remark,
)
def safety_residual(matrix: WeightMatrix) -> Basis | None:
    """Right singular vectors of X W − X, the largest first; W maps base's activations X to the aligned model's.

    X (N × d) holds useful and harmful prompts after the block at 15/32 of the depth, W = argmin ‖X W − Y‖_F.
    """
    layer = middle_layer(matrix.layers)

    def directions() -> Float[torch.Tensor, "d r"]:
        before = torch.cat([matrix.base_after(kind, layer) for kind in _KINDS]).double()
        after = torch.cat([matrix.residual_after(kind, layer) for kind in _KINDS]).double()
        moved = shift(before, after)
        if moved.norm() <= _LEAST * before.norm():
            return moved.new_empty(moved.shape[1], 0).float()
        return decompose(moved.T).left.float()

    columns = matrix.once("safety-residual", directions)
    return written(matrix, columns) if columns.shape[1] else None


def shift(before: Float[torch.Tensor, "N d"], after: Float[torch.Tensor, "N d"]) -> Float[torch.Tensor, "N d"]:
    """X W − X, with the least-squares W: X W is what Y has in the column space of X."""
    left, values, _ = torch.linalg.svd(before, full_matrices=False)
    reached = left[:, values > values[0] * max(before.shape) * torch.finfo(torch.float64).eps]
    return product(reached, product(reached.T, after)) - before
