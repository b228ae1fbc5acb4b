"""The alignment subspace: the leading singular vectors of the alignment update."""

from safespan.subspaces.hypothesis import hypothesis
from safespan.subspaces.sides import Basis, singular_basis
from safespan.subspaces.weight_matrix import WeightMatrix


@hypothesis(
    "alignment",
    claim="safety lies in the leading singular vectors of the alignment update Δ_A",
    paper="https://arxiv.org/abs/2505.14185",
    needs=["base"],
    removes="alignment",
    line="alignment",
    authors_tests=["update"],
)
def alignment(matrix: WeightMatrix) -> Basis:
    """U_k of Δ_A = U Σ Vᵀ (section 3 of the paper: top-k)."""
    return singular_basis(matrix.side, lambda side: matrix.spectrum("alignment", side).left)
