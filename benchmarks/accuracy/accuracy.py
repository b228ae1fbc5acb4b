"""How far the fast arithmetic is from LAPACK's SVD in float64: energies, projections, overlaps, random bases."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from benchmarks.speed.sizes import ENERGIES, FRACTIONS

from safespan import decompose, overlap_curve
from safespan.subspaces import Basis, random_basis, rank_of_fraction

SHAPES = {"square": (576, 576), "wide": (576, 1536), "tall": (1536, 576), "very tall": (8192, 576)}
STEEP = 1e-5
"""σ_min / σ_max of the steep updates: most of their directions are lost in a float32 Gram matrix."""


def accuracy() -> Callable[[], list[dict[str, Any]]]:
    """A side: a row a shape and kind of update, with the largest distances over all fractions and energies."""
    return lambda: [
        row(name, kind, *shape) for name, shape in SHAPES.items() for kind in ("low rank and noise", "steep")
    ]


def row(name: str, kind: str, m: int, n: int) -> dict[str, Any]:
    alignment, task = drawn(kind, m, n, 0), drawn("low rank and noise", m, n, 1)
    spectrum, other = decompose(alignment), decompose(task)
    left, their_left = lapack(alignment), lapack(task)
    basis = Basis(spectrum.left, None)
    coefficients = basis.coefficients(task)
    energies = basis.energies(coefficients)
    exact = task.double().numpy()
    total = np.linalg.norm(exact) ** 2
    apart: dict[str, float] = {"energy": 0.0, "projection": 0.0}
    for fraction in FRACTIONS:
        k = rank_of_fraction(fraction, (m, n))
        inside = left[0][:, :k] @ (left[0][:, :k].T @ exact)
        energy = abs(float(energies[k - 1]) - np.linalg.norm(inside) ** 2) / total
        distance = np.linalg.norm(basis.parallel(coefficients, k).numpy() - inside) / total**0.5
        apart = {"energy": max(apart["energy"], energy), "projection": max(apart["projection"], float(distance))}
    points = overlap_curve(spectrum, other, ENERGIES)
    overlap = max(abs(point.mso - mso(left, their_left, point.energy_fraction)) for point in points)
    drawn_basis = random_basis((m, n), 0, name).double()
    skew = float((drawn_basis.T @ drawn_basis - torch.eye(min(m, n), dtype=torch.float64)).abs().max())
    distances = {**apart, "overlap": overlap, "random": skew}
    return {"shape": f"{name}, {m} × {n}", "update": kind, **{key: float(value) for key, value in distances.items()}}


def drawn(kind: str, m: int, n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)

    def gaussian(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    if kind != "steep":
        return (gaussian(m, 8) @ gaussian(8, n) + gaussian(m, n)).float()
    p = min(m, n)
    left, right = torch.linalg.qr(gaussian(m, p)).Q, torch.linalg.qr(gaussian(n, p)).Q
    return (left @ torch.diag(torch.logspace(0, np.log10(STEEP), p, dtype=torch.float64)) @ right.T).float()


def lapack(matrix: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    left, values, _ = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    return left, values


def mso(x: tuple[np.ndarray, np.ndarray], y: tuple[np.ndarray, np.ndarray], energy: float) -> float:
    bases = []
    for left, values in (x, y):
        shares = np.cumsum(values**2) / np.sum(values**2)
        bases.append(left[:, : int(np.searchsorted(shares, energy * (1 - 1e-12))) + 1])
    return float(np.linalg.norm(bases[0].T @ bases[1]) ** 2 / min(basis.shape[1] for basis in bases))
