"""The oracle: the leading singular vectors of the harmful update itself."""

from safespan.subspaces.hypothesis import hypothesis
from safespan.subspaces.sides import Basis, singular_basis
from safespan.subspaces.weight_matrix import WeightMatrix


@hypothesis(
    "harmful-update",
    claim="oracle: the leading singular vectors of the harmful update Δ_H, which a defender does not have",
    paper="https://arxiv.org/abs/2505.14185",
    needs=["harmful"],
    removes="alignment",
    line="harmful",
)
def harmful_update(matrix: WeightMatrix) -> Basis:
    """U_k of Δ_H = U Σ Vᵀ."""
    return singular_basis(matrix.side, lambda side: matrix.spectrum("harmful", side).left)
