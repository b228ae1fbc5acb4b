"""The paper's first control: singular vectors of the alignment update, drawn at random."""

from safespan.subspaces.bases import random_order
from safespan.subspaces.hypothesis import hypothesis
from safespan.subspaces.sides import Basis, singular_basis
from safespan.subspaces.weight_matrix import WeightMatrix


@hypothesis(
    "random-k",
    claim="control: as `alignment`, its singular vectors in random order",
    paper="https://arxiv.org/abs/2505.14185",
    needs=["base"],
    removes="alignment",
    line="alignment",
    authors_tests=["update"],
)
def random_k(matrix: WeightMatrix) -> Basis:
    """Singular vectors of Δ_A without replacement; `alignment` shares their coefficients."""
    basis = singular_basis(matrix.side, lambda side: matrix.spectrum("alignment", side).left)
    orders = [
        None if columns is None else random_order(columns.shape[1], matrix.seed, f"{matrix.name}/{side}")
        for side, columns in (("output", basis.left), ("input", basis.right))
    ]
    return Basis(basis.left, basis.right, *orders)
