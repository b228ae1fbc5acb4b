"""The safety subspace: the leading singular vectors of a safety-tuned model's update."""

from safespan.subspaces.hypothesis import hypothesis
from safespan.subspaces.sides import Basis, singular_basis
from safespan.subspaces.weight_matrix import WeightMatrix


@hypothesis(
    "safety",
    claim="safety lies in the leading singular vectors of the safety update Δ_S, of a model tuned on safe answers",
    paper="https://arxiv.org/abs/2505.14185",
    needs=["safe"],
    removes="alignment",
    line="safety",
    authors_tests=["update"],
)
def safety(matrix: WeightMatrix) -> Basis:
    """U_k of Δ_S = U Σ Vᵀ (version 3 of the paper)."""
    return singular_basis(matrix.side, lambda side: matrix.spectrum("safety", side).left)
