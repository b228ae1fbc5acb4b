"""The paper's first control: singular vectors of the alignment update, drawn at random."""

from dataclasses import replace

from safespan.subspaces.bases import random_order
from safespan.subspaces.hypotheses.alignment import alignment
from safespan.subspaces.hypothesis import WeightMatrix, hypothesis
from safespan.subspaces.sides import Basis


@hypothesis(
    "random-k",
    claim="control: as `alignment`, its singular vectors in random order",
    paper="https://arxiv.org/abs/2505.14185",
    needs=["base"],
)
def random_k(matrix: WeightMatrix) -> Basis:
    """Singular vectors of Δ_A without replacement; `alignment` shares their coefficients."""
    basis = alignment.function(matrix)
    assert isinstance(basis, Basis)
    orders = {
        f"{name}_order": random_order(columns.shape[1], matrix.seed, f"{matrix.name}/{side}")
        for name, side, columns in (("left", "output", basis.left), ("right", "input", basis.right))
        if columns is not None
    }
    return replace(basis, **orders)
