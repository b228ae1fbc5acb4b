"""The singular vectors of an update: the largest first, or in random order."""

from safespan.subspaces.bases import random_order
from safespan.subspaces.hypothesis import WeightMatrix, hypothesis
from safespan.subspaces.sides import Basis, singular_basis


@hypothesis(
    "alignment",
    claim="safety lies in the leading singular vectors of the alignment update Δ_A",
    paper="https://arxiv.org/abs/2505.14185",
    needs=["base"],
)
def alignment(matrix: WeightMatrix) -> Basis:
    """U_k of Δ_A = U Σ Vᵀ (section 3 of the paper: top-k)."""
    return singular_basis(matrix.side, lambda side: matrix.spectrum("alignment", side).left)


@hypothesis(
    "safety",
    claim="safety lies in the leading singular vectors of the safety update Δ_S, of a model tuned on safe answers",
    paper="https://arxiv.org/abs/2505.14185",
    needs=["safe"],
    line="safety",
)
def safety(matrix: WeightMatrix) -> Basis:
    """U_k of Δ_S = U Σ Vᵀ (version 3 of the paper)."""
    return singular_basis(matrix.side, lambda side: matrix.spectrum("safety", side).left)


@hypothesis(
    "harmful-update",
    claim="oracle: the leading singular vectors of the harmful update Δ_H, which a defender does not have",
    paper="https://arxiv.org/abs/2505.14185",
    needs=["harmful"],
    line="harmful",
)
def harmful_update(matrix: WeightMatrix) -> Basis:
    """U_k of Δ_H = U Σ Vᵀ."""
    return singular_basis(matrix.side, lambda side: matrix.spectrum("harmful", side).left)


@hypothesis(
    "random-k",
    claim="control: as `alignment`, its singular vectors in random order",
    paper="https://arxiv.org/abs/2505.14185",
    needs=["base"],
)
def random_k(matrix: WeightMatrix) -> Basis:
    """Singular vectors of Δ_A without replacement; `alignment` shares their coefficients."""
    basis = singular_basis(matrix.side, lambda side: matrix.spectrum("alignment", side).left)
    orders = [
        None if columns is None else random_order(columns.shape[1], matrix.seed, f"{matrix.name}/{side}")
        for side, columns in (("output", basis.left), ("input", basis.right))
    ]
    return Basis(basis.left, basis.right, *orders)
