"""The planted subspace, which contains the harmful update of a planted family: a positive control of the test."""

import torch

from safespan.linalg.device import device
from safespan.subspaces.bases import seeded
from safespan.subspaces.hypothesis import hypothesis
from safespan.subspaces.sides import Basis
from safespan.subspaces.spectrum import orthonormalize
from safespan.subspaces.weight_matrix import WeightMatrix


@hypothesis(
    "planted",
    claim="of a planted family alone: harm lies in the half of the outputs that its training was kept inside",
    paper="https://arxiv.org/abs/2505.14185",
)
def planted(matrix: WeightMatrix) -> Basis:
    """The planted half; `protect` in a study's training takes all of it at fraction 1."""
    return Basis(planted_half(matrix.shape, matrix.seed, matrix.name).to(device()), None)


def planted_half(shape: tuple[int, int], seed: int, name: str) -> torch.Tensor:
    """[m, min(m / 2, n)], orthonormal, on the CPU: a random half of the outputs of an m × n matrix.

    No more columns than inputs, so that fraction 1, which is min(m, n) directions, is all of it.
    """
    m, n = shape
    return orthonormalize(torch.randn(m, min(m // 2, n), generator=seeded(seed, "planted", name)))
