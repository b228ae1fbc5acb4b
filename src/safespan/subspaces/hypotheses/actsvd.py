"""ActSVD (Wei et al.): the directions in which a layer's outputs on safety prompts are large."""

import torch
from jaxtyping import Float

from safespan.checkpoints import in_block
from safespan.linalg.kernels import product
from safespan.subspaces.hypothesis import hypothesis
from safespan.subspaces.sides import Basis
from safespan.subspaces.spectrum import decompose
from safespan.subspaces.weight_matrix import WeightMatrix

_UTILITY_ENERGY = 0.9
"""Share of the energy of the outputs on useful prompts that counts as utility."""


@hypothesis(
    "actsvd",
    claim="safety lies in the leading directions of a layer's outputs W·X on harmful prompts; in training the claim of "
    "SaLoRA, https://arxiv.org/abs/2501.01765",
    paper="https://arxiv.org/abs/2402.05162",
    needs=["prompts"],
    removes="weights",
    authors_tests=["ablation", "training"],
)
def actsvd(matrix: WeightMatrix) -> Basis | None:
    """Left singular vectors of W_A X_safety, the largest first.

    SaLoRA (Li et al., https://arxiv.org/abs/2501.01765) protects this same subspace in training.
    """
    outputs = outputs_on(matrix, "harmful")
    return None if outputs is None else Basis(decompose(outputs).left, None)


@hypothesis(
    "actsvd-orthogonal",
    claim="as `actsvd`, without what the layer's outputs on useful prompts need",
    paper="https://arxiv.org/abs/2402.05162",
    needs=["prompts"],
    removes="weights",
    authors_tests=["ablation"],
)
def actsvd_orthogonal(matrix: WeightMatrix) -> Basis | None:
    """Directions of (I − Π_utility) W_A X_safety; Π_utility holds 90 % of the energy on useful prompts."""
    useful, harmful = outputs_on(matrix, "useful"), outputs_on(matrix, "harmful")
    if useful is None or harmful is None:
        return None
    spectrum = decompose(useful)
    utility = spectrum.left[:, : spectrum.rank_for_energy(_UTILITY_ENERGY)]
    return Basis(decompose(harmful - product(utility, product(utility.T, harmful))).left, None)


def outputs_on(matrix: WeightMatrix, prompts: str) -> Float[torch.Tensor, "m N"] | None:
    """W_A X; None outside the blocks (the paper leaves the output head out), and where inputs were not captured."""
    if not in_block(matrix.name):
        return None
    inputs: torch.Tensor | None = matrix.inputs(prompts)
    return None if inputs is None else product(matrix.aligned, inputs.T)
