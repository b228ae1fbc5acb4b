"""ActSVD (Wei et al.): the directions in which a layer's outputs on safety prompts are large."""

import torch

from safespan.linalg.kernels import product
from safespan.subspaces.hypothesis import WeightMatrix, hypothesis
from safespan.subspaces.sides import Basis
from safespan.subspaces.spectrum import Spectrum, decompose

_UTILITY_ENERGY = 0.9
"""Share of the energy of the outputs on useful prompts that counts as utility."""


@hypothesis(
    "actsvd",
    claim="safety lies in the leading directions of a layer's outputs W·X on harmful prompts",
    paper="https://arxiv.org/abs/2402.05162",
    needs=["prompts"],
    removes="weights",
)
def actsvd(matrix: WeightMatrix) -> Basis | None:
    """Left singular vectors of W_A X_safety, the largest first."""
    outputs = outputs_on(matrix, "harmful")
    return None if outputs is None else Basis(outputs.left, None)


@hypothesis(
    "actsvd-orthogonal",
    claim="as `actsvd`, without what the layer's outputs on useful prompts need",
    paper="https://arxiv.org/abs/2402.05162",
    needs=["prompts"],
    removes="weights",
)
def actsvd_orthogonal(matrix: WeightMatrix) -> Basis | None:
    """Directions of (I − Π_utility) W_A X_safety; Π_utility holds 90 % of the energy on useful prompts."""
    useful, inputs = outputs_on(matrix, "useful"), matrix.inputs("harmful")
    if useful is None or inputs is None:
        return None
    utility = useful.left[:, : useful.rank_for_energy(_UTILITY_ENERGY)]
    outputs = product(matrix.aligned, inputs.T)
    return Basis(decompose(outputs - product(utility, product(utility.T, outputs))).left, None)


def outputs_on(matrix: WeightMatrix, prompts: str) -> Spectrum | None:
    """The decomposition of W_A X, m × N; None where inputs were not captured."""
    inputs: torch.Tensor | None = matrix.inputs(prompts)
    return None if inputs is None else decompose(product(matrix.aligned, inputs.T))
