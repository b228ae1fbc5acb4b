"""One exact decomposition of a matrix."""

from dataclasses import dataclass

import torch
from jaxtyping import Float


@dataclass(frozen=True)
class Spectrum:
    """Left singular vectors and singular values of an m × n matrix, up to its numerical rank r.

    Attributes:
        left: [m, r], float64, orthonormal columns, by falling singular value.
        values: [r], float64, falling, all above the rank tolerance.
    """

    left: Float[torch.Tensor, "m r"]
    values: Float[torch.Tensor, " r"]

    def rank_for_energy(self, energy: float) -> int:
        """Smallest k with Σ_{i≤k} σ_i² ≥ energy · Σ σ_i² (METHODS §3); 0 for a zero matrix."""
        cumulated = torch.cumsum(self.values**2, 0)
        if not len(cumulated):
            return 0
        # The sum carries rounding of its own: without the slack, energy 1 could ask for one vector too many.
        return int((cumulated < energy * cumulated[-1] * (1 - 1e-12)).sum()) + 1


def decompose(matrix: Float[torch.Tensor, "m n"]) -> Spectrum:
    """Decompose a matrix in float64.

    A wide matrix goes through the eigenvectors of its Gram matrix, a tall one through QR and the SVD of R: both
    keep the small directions that a float32 Gram matrix loses, at a fraction of a full SVD's cost. Directions
    below σ_1 · √(max(m, n) · ε) are noise of the arithmetic, have no meaning as singular vectors and are left out.

    Args:
        matrix: m × n, any float dtype.

    Returns:
        The spectrum; r = 0 for a zero matrix.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    exact = matrix.double()
    if wide:
        squares, vectors = torch.linalg.eigh(exact @ exact.T)
        left, values = vectors.flip(1), squares.clamp(min=0).sqrt().flip(0)
    else:
        q, r = torch.linalg.qr(exact)
        rotation, values, _ = torch.linalg.svd(r)
        left = q @ rotation
    tolerance = values[0] * (max(matrix.shape) * torch.finfo(torch.float64).eps) ** 0.5
    rank = int((values > tolerance).sum())
    return Spectrum(left[:, :rank], values[:rank])
