"""The planted subspace, which contains the harmful update of a planted family: a positive control of the test."""

import torch

from safespan.linalg.device import device
from safespan.subspaces.bases import seeded
from safespan.subspaces.hypothesis import WeightMatrix, hypothesis
from safespan.subspaces.sides import Basis
from safespan.subspaces.spectrum import orthonormalize


@hypothesis(
    "planted",
    claim="of a planted family alone: harm lies in the half of the outputs that its training was confined to",
    paper="https://arxiv.org/abs/2505.14185",
)
def planted(matrix: WeightMatrix) -> Basis:
    """The planted half first, then its complement; `confine` in a study's training takes the same halves."""
    m = matrix.shape[0]
    half = planted_half(m, matrix.seed, matrix.name)
    # Householder's Q of the half: its first columns span the half, the others the complement.
    whole = torch.linalg.qr(half.double(), mode="complete").Q
    return Basis(torch.cat([half, whole[:, half.shape[1] :].float()], 1).to(device()), None)


def planted_half(size: int, seed: int, name: str) -> torch.Tensor:
    """[m, m / 2], orthonormal, on the CPU: a random half of the outputs of a matrix."""
    return orthonormalize(torch.randn(size, size // 2, generator=seeded(seed, "planted", name)))
