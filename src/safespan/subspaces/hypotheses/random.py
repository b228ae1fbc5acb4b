"""The paper's second control: a random subspace, independent of the model."""

from safespan.linalg.device import device
from safespan.subspaces.bases import random_basis
from safespan.subspaces.hypothesis import hypothesis
from safespan.subspaces.sides import Basis, singular_basis
from safespan.subspaces.weight_matrix import WeightMatrix


@hypothesis(
    "random",
    claim="control: a Haar-random subspace",
    paper="https://arxiv.org/abs/2505.14185",
    removes="alignment",
    line="alignment",
    authors_tests=["update"],
)
def random(matrix: WeightMatrix) -> Basis:
    """A Haar-distributed basis of min(m, n) columns."""
    m, n = matrix.shape
    shapes = {"output": (m, n), "input": (n, m)}
    return singular_basis(
        matrix.side, lambda side: random_basis(shapes[side], matrix.seed, f"{matrix.name}/{side}", device())
    )
