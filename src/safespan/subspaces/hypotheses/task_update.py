"""What was learned: the singular vectors of a fine-tune's own update that stand above the noise of its spectrum."""

from functools import cache
from math import pi, sqrt

import torch

from safespan.subspaces.hypothesis import hypothesis
from safespan.subspaces.sides import Basis, singular_basis
from safespan.subspaces.weight_matrix import WeightMatrix

_STEPS = 1 << 16


@hypothesis(
    "task-update",
    claim="what was learned lies in the leading singular vectors of Δ_T itself, those above the noise of its spectrum",
    paper="https://arxiv.org/abs/2605.20296",
    needs=["task"],
    authors_tests=["update"],
)
def task_update(matrix: WeightMatrix) -> Basis:
    """U_r of Δ_T = U Σ Vᵀ, with σ_r the last above ω(β) · median(σ), ω(β) = λ(β) / √μ_β, β = min(m, n) / max(m, n)."""
    known = matrix.spectrum("task", "input" if matrix.side == "input" else "output")
    rank = signal_rank(known.values, matrix.shape)
    return singular_basis(matrix.side, lambda side: matrix.spectrum("task", side).left[:, :rank])


def signal_rank(values: torch.Tensor, shape: tuple[int, int]) -> int:
    """How many singular values stand above the optimal hard threshold for an unknown noise (Gavish and Donoho 2014).

    Args:
        values: [r], σ, those that are not zero.
        shape: (m, n); of its min(m, n) singular values the others are zero, and count in the median.
    """
    every = torch.zeros(min(shape), dtype=torch.float64)
    every[: len(values)] = values.double().cpu()
    noise = float(every.quantile(0.5)) / median_of_noise(min(shape) / max(shape))
    return int((every > threshold(min(shape) / max(shape)) * noise).sum())


def threshold(ratio: float) -> float:
    """λ(β): the optimal threshold for noise of known size, in units of σ_noise √max(m, n)."""
    root = sqrt(ratio**2 + 14 * ratio + 1)
    return sqrt(2 * (ratio + 1) + 8 * ratio / (ratio + 1 + root))


@cache
def median_of_noise(ratio: float) -> float:
    """√μ_β: the median singular value of pure noise, in the same units.

    μ_β is the median of the law of Marchenko and Pastur: the squares x have the density
    √((x₊ − x)(x − x₋)) / (2π β x) between x∓ = (1 ∓ √β)². With x = 1 + β − 2 √β cos θ this is 2 sin²θ / (π x) dθ,
    which has no roots at its ends.
    """
    angles = torch.linspace(0, pi, _STEPS + 1, dtype=torch.float64)
    squares = 1 + ratio - 2 * sqrt(ratio) * angles.cos()
    density = torch.where(squares > 0, 2 * angles.sin() ** 2 / (pi * squares), torch.full_like(angles, 2 / pi))
    below = torch.cumulative_trapezoid(density, angles)
    return sqrt(float(squares[1 + int(torch.searchsorted(below, 0.5 * below[-1]))]))
