"""One exact decomposition of a matrix."""

from dataclasses import dataclass

import torch
from jaxtyping import Float

CHUNK = 4096
"""Rows or columns that are in float64 at a time."""

_GRADED = 1e-4


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

    Through the eigenvectors of the smaller Gram matrix, summed over chunks in float64: it keeps the small directions
    that one in float32 loses, at a fraction of a full SVD's cost, and needs no float64 copy of the matrix. Directions
    below σ_1 · √(max(m, n) · ε) are noise of the arithmetic, have no meaning as singular vectors and are left out.

    Args:
        matrix: m × n, any float dtype.

    Returns:
        The spectrum; r = 0 for a zero matrix.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    chunks = torch.split(matrix if tall else matrix.T, CHUNK)
    gram = torch.zeros(min(matrix.shape), min(matrix.shape), dtype=torch.float64, device=matrix.device)
    for chunk in chunks:
        exact = chunk.double()
        gram.addmm_(exact.T, exact)
    squares, vectors = torch.linalg.eigh(gram)
    values, vectors = squares.clamp(min=0).sqrt().flip(0), vectors.flip(1)
    tolerance = values[0] * (max(matrix.shape) * torch.finfo(torch.float64).eps) ** 0.5
    rank = int((values > tolerance).sum())
    values, vectors = values[:rank], vectors[:, :rank]
    # A tall matrix's left vectors are its rows seen along the right ones.
    left = torch.cat([chunk.double() @ (vectors / values) for chunk in chunks]) if tall else vectors
    if tall and rank and values[-1] < _GRADED * values[0]:
        left = orthonormal(left)  # ε·(σ_1/σ_i)² of the others is left in each vector
    return Spectrum(left, values)


def orthonormal(columns: Float[torch.Tensor, "m k"]) -> Float[torch.Tensor, "m k"]:
    """The Q of a QR with a positive diagonal in R, by Cholesky: each column is freed of those before it.

    Of a Gaussian matrix it is Haar-distributed. Matrix products throughout, where Householder's reflections are not.
    The loss of orthogonality is ε·κ², small enough in float64: a square Gaussian's κ is of the order of its size.
    """
    triangle = torch.linalg.cholesky(columns.T @ columns, upper=True)
    result: torch.Tensor = torch.linalg.solve_triangular(triangle, columns, upper=True, left=False)
    return result
