"""The null space of harmless activations (AlphaEdit): updates there leave what the model knows as it is."""

import torch

from safespan.linalg.kernels import eigh, gram
from safespan.subspaces.hypothesis import hypothesis
from safespan.subspaces.sides import Basis
from safespan.subspaces.weight_matrix import WeightMatrix


@hypothesis(
    "activation-null",
    claim="harm lies where useful activations are small: in the null space of a layer's inputs on useful prompts",
    paper="https://arxiv.org/abs/2410.02355",
    needs=["prompts"],
    removes="weights",
)
def activation_null(matrix: WeightMatrix) -> Basis | None:
    """Eigenvectors of X Xᵀ, the smallest eigenvalue first: a prefix is the paper's null space for some threshold."""
    inputs: torch.Tensor | None = matrix.inputs("useful")
    if inputs is None:
        return None
    _, vectors = eigh(gram(inputs.double()))
    return Basis(None, vectors.flip(1).float())
