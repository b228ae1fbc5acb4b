"""LSSF (Zhou et al.): of the safety vector −Δ_H, a low-rank part is added; entropy chooses the rank."""

import torch

from safespan.linalg.kernels import product
from safespan.subspaces.hypotheses.actsvd import outputs_on
from safespan.subspaces.hypothesis import Edit, hypothesis
from safespan.subspaces.spectrum import Spectrum, decompose
from safespan.subspaces.weight_matrix import WeightMatrix

_ETA, _ALPHA = 0.85, 1.0
"""η, the share of the entropy that the rank has to hold; α at fraction 1, so that the fraction is the paper's α."""


@hypothesis(
    "lssf",
    claim="safety is restored by the part of −Δ_H in the leading directions of a layer's outputs on harmful prompts",
    paper="https://arxiv.org/abs/2602.00038",
    needs=["harmful", "prompts"],
    kind="addition",
    authors_tests=["update"],
)
def lssf(matrix: WeightMatrix) -> Edit | None:
    """Δ_T − α U_r U_rᵀ Δ_H, with U of W_A X_harmful = U Σ Vᵀ and r by the entropy of Σ."""
    outputs = outputs_on(matrix, "harmful")
    return None if outputs is None else _added(matrix, decompose(outputs))


@hypothesis(
    "lssf-update",
    claim="a second reading of LSSF: as `lssf`, with the leading directions of Δ_H itself, which need no prompts",
    paper="https://arxiv.org/abs/2602.00038",
    needs=["harmful"],
    kind="addition",
)
def lssf_update(matrix: WeightMatrix) -> Edit:
    """Δ_T − α U_r U_rᵀ Δ_H, with U of Δ_H = U Σ Vᵀ and r by the entropy of Σ: Δ_H cut to rank r."""
    return _added(matrix, matrix.spectrum("harmful"))


def _added(matrix: WeightMatrix, spectrum: Spectrum) -> Edit:
    left = spectrum.left[:, : rank_for_entropy(spectrum.values, _ETA)]
    return Edit(matrix.task - _ALPHA * product(left, product(left.T, matrix.harmful)))


def rank_for_entropy(values: torch.Tensor, share: float) -> int:
    """Smallest r with H_r ≥ share · H_n, H_r = −Σ_{i≤r} p_i ln p_i and p_i = σ_i² / Σσ²; 0 where there are none.

    Args:
        values: [n], σ, falling.
        share: η in (0, 1].
    """
    if not len(values):
        return 0
    energies = values.double() ** 2
    entropies = torch.special.entr(energies / energies.sum()).cumsum(0)
    # As in `Spectrum.rank_for_energy`: the sum has a rounding error.
    return int((entropies < share * entropies[-1] * (1 - 1e-12)).sum()) + 1
