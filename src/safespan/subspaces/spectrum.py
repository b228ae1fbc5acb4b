"""The exact decomposition of a matrix."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float

from safespan.linalg.kernels import eigh, gram, product
from safespan.settings.names import check_shares

CHUNK = 1024
"""Number of rows or columns that are in float64 at a time."""

_GRADED = 1e-4


@dataclass(frozen=True)
class Factor:
    """The costly part of the decomposition of an m × n matrix M, which the cache keeps.

    Attributes:
        values: [r], float64: the singular values above the rank tolerance, falling.
        weights: [min(m, n), r], float64. If m ≤ n the left singular vectors; else W such that M·W are the left singular
            vectors, which for a tall matrix is smaller than these.
    """

    values: Float[torch.Tensor, " r"]
    weights: Float[torch.Tensor, "s r"]


@dataclass(frozen=True)
class Spectrum:
    """Left singular vectors and singular values of an m × n matrix, up to its numerical rank r.

    Attributes:
        left: [m, r], or fewer columns if fewer were requested: orthonormal, by falling singular value, computed in
            float64 and rounded to float32.
        values: [r], float64, falling, all above the rank tolerance.
    """

    left: Float[torch.Tensor, "m k"]
    values: Float[torch.Tensor, " r"]

    def rank_for_energy(self, energy: float) -> int:
        """Smallest k with Σ_{i≤k} σ_i² ≥ energy · Σ σ_i² (METHODS §3); 0 for a zero matrix."""
        cumulated = torch.cumsum(self.values**2, 0)
        if not len(cumulated):
            return 0
        # The sum has a rounding error: without the tolerance, energy 1 could need one vector too many.
        return int((cumulated < energy * cumulated[-1] * (1 - 1e-12)).sum()) + 1


@runtime_checkable
class Decompose(Protocol):
    """`decompose`, or that of a cache."""

    def __call__(self, matrix: torch.Tensor, fraction: float = 1.0) -> Spectrum:
        """As `decompose`."""


def rank_of_fraction(fraction: float, shape: tuple[int, int]) -> int:
    """k = max(1, round(f · min(m, n))) (METHODS §2).

    Raises:
        ConfigError: the fraction is outside (0, 1].
    """
    check_shares("fraction", [fraction])
    return max(1, round(fraction * min(shape)))


def decompose(matrix: Float[torch.Tensor, "m n"], fraction: float = 1.0) -> Spectrum:
    """Decompose a matrix in float64.

    By the eigenvectors of the smaller Gram matrix, summed over chunks in float64. This keeps the small directions that
    a Gram matrix in float32 loses, costs a fraction of a full SVD, and needs no float64 copy of the matrix. Directions
    below σ_1 · √(max(m, n) · ε) are rounding noise and are left out.

    Args:
        matrix: m × n, float32 or float64.
        fraction: f; left vectors beyond its rank are not computed.

    Returns:
        The spectrum; r = 0 for a zero matrix.
    """
    return spectrum_of(matrix, factorize(matrix), fraction)


def factorize(matrix: Float[torch.Tensor, "m n"]) -> Factor:
    """The costly part of `decompose`."""
    tall = matrix.shape[0] > matrix.shape[1]
    squares, vectors = eigh(_gram(matrix if tall else matrix.T))
    values = squares.clamp(min=0).sqrt()
    tolerance = values[0] * (max(matrix.shape) * torch.finfo(torch.float64).eps) ** 0.5
    rank = int((values > tolerance).sum())
    values, vectors = values[:rank], vectors[:, :rank]
    if not tall or not rank:
        return Factor(values, vectors)
    weights = vectors / values
    if values[-1] < _GRADED * values[0]:  # ε·(σ_1/σ_i)² of the others is left in each vector
        left_gram = reduce(torch.Tensor.add_, map(gram, _products(matrix, weights)))
        weights = torch.linalg.solve_triangular(_triangle(left_gram), weights, upper=True, left=False)
    return Factor(values, weights)


def spectrum_of(matrix: Float[torch.Tensor, "m n"], factor: Factor, fraction: float = 1.0) -> Spectrum:
    """The spectrum of a matrix from its factor; `fraction` as in `decompose`."""
    m, n = matrix.shape
    weights = factor.weights[:, : rank_of_fraction(fraction, (m, n))]
    if m <= n:
        return Spectrum(weights.float(), factor.values)
    left = torch.empty(m, weights.shape[1], device=matrix.device)
    for rows, part in zip(torch.split(left, CHUNK), _products(matrix, weights), strict=True):
        rows.copy_(part)
    return Spectrum(left, factor.values)


def orthonormalize(columns: Float[torch.Tensor, "m k"]) -> Float[torch.Tensor, "m k"]:
    """Replace columns, in place, by the Q of their QR decomposition with a positive diagonal of R.

    The Q of a Gaussian matrix is Haar-distributed. Up to twice as tall as wide it is computed by Householder
    reflections in float64: one square Gaussian in tens of thousands has a κ of millions. Taller ones are computed by
    Cholesky, which is far faster, and loses ε·κ².
    """
    if columns.shape[0] < 2 * columns.shape[1]:
        q, r = torch.linalg.qr(columns.double())
        return columns.copy_(q * r.diagonal().sign())
    triangle = _triangle(_gram(columns))
    # κ of a tall Gaussian is below 6, so that a product in float32 is exact enough, and it is far faster.
    inverse = torch.linalg.solve_triangular(triangle, torch.eye(len(triangle)).to(triangle), upper=True).float()
    for rows in torch.split(columns, CHUNK):
        rows.copy_(product(rows, inverse))
    return columns


def _gram(columns: Float[torch.Tensor, "m n"]) -> Float[torch.Tensor, "n n"]:
    """XᵀX in float64, without a float64 copy of X."""
    return reduce(torch.Tensor.add_, (gram(chunk.double()) for chunk in torch.split(columns, CHUNK)))


def _products(matrix: Float[torch.Tensor, "m n"], weights: Float[torch.Tensor, "n r"]) -> Iterator[torch.Tensor]:
    for rows in torch.split(matrix, CHUNK):
        yield product(rows.double(), weights)


def _triangle(squared: torch.Tensor) -> torch.Tensor:
    triangle: torch.Tensor = torch.linalg.cholesky(squared, upper=True)
    return triangle
