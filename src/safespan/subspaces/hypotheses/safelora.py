"""Safe LoRA (Hsu et al.): updates of the layers that point away from the alignment update are mapped into it."""

import torch

from safespan.linalg.kernels import inner_product, product, squared_norm
from safespan.subspaces.hypothesis import Edit, hypothesis
from safespan.subspaces.weight_matrix import WeightMatrix

_ENERGY = 0.9


@hypothesis(
    "safelora",
    claim="safety survives where updates far from Δ_A are mapped by C = Δ_A Δ_Aᵀ / ‖Δ_A‖_F",
    paper="https://arxiv.org/abs/2405.16833",
    needs=["base"],
    kind="layers",
    authors_tests=["update"],
)
def safelora(matrix: WeightMatrix) -> Edit:
    """C Δ_T, with the paper's approximate projector; the score is its cosine with Δ_T."""
    mapped = approximate_projection(matrix)
    return Edit(mapped, cosine(matrix.task, mapped))


@hypothesis(
    "safelora-projector",
    claim="as `safelora`, with a true projector: on the left singular vectors of Δ_A that hold 90 % of its energy",
    paper="https://arxiv.org/abs/2405.16833",
    needs=["base"],
    kind="layers",
    authors_tests=["update"],
)
def safelora_projector(matrix: WeightMatrix) -> Edit:
    """U_k U_kᵀ Δ_T. C has the singular vectors of Δ_A too, but weights them by σ², and is far from idempotent."""
    spectrum = matrix.spectrum("alignment")
    left = spectrum.left[:, : spectrum.rank_for_energy(_ENERGY)]
    mapped = product(left, product(left.T, matrix.task))
    return Edit(mapped, cosine(matrix.task, mapped))


def approximate_projection(matrix: WeightMatrix) -> torch.Tensor:
    """C Δ_T, C = Δ_A Δ_Aᵀ / ‖Δ_A‖_F (0 where Δ_A = 0)."""
    alignment = matrix.alignment
    norm = squared_norm(alignment) ** 0.5
    return product(alignment, product(alignment.T, matrix.task)) / (norm or 1.0)


def cosine(x: torch.Tensor, y: torch.Tensor) -> float:
    """⟨X, Y⟩ / (‖X‖ ‖Y‖); 0 where one of them is 0."""
    norms = (squared_norm(x) * squared_norm(y)) ** 0.5
    return inner_product(x, y) / norms if norms else 0.0
