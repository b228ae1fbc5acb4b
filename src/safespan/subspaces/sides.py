"""Bases on the output side, the input side or both sides of the matrices of one tensor."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float

from safespan.subspaces.bases import subspace_basis
from safespan.subspaces.spectrum import Spectrum, decompose
from safespan.updates import matrices, matrix_names

Side = Literal["output", "input", "both"]


@dataclass(frozen=True)
class Basis:
    """Ordered orthonormal bases of one matrix: on its output side, its input side, or both."""

    left: Float[torch.Tensor, "m k"] | None
    right: Float[torch.Tensor, "n k"] | None

    def coefficients(self, delta: Float[torch.Tensor, "m n"]) -> torch.Tensor:
        """C = UᵀΔ, ΔV or UᵀΔV, which serves every rank."""
        result = delta if self.left is None else self.left.T @ delta
        return result if self.right is None else result @ self.right

    def energies(self, coefficients: torch.Tensor) -> Float[torch.Tensor, " k"]:
        """‖P_k‖²_F for k = 1, 2, …, in float64."""
        squares = coefficients.double() ** 2
        if self.right is None:
            return squares.sum(1).cumsum(0)
        if self.left is None:
            return squares.sum(0).cumsum(0)
        return squares.cumsum(0).cumsum(1).diagonal()

    def parallel(self, coefficients: torch.Tensor, k: int) -> Float[torch.Tensor, "m n"]:
        """P_k: the part of Δ inside the first k directions."""
        result = coefficients
        if self.left is not None:
            result = self.left[:, :k] @ result[:k]
        if self.right is not None:
            result = result[:, :k] @ self.right[:, :k].T
        return result


Spectra = list[tuple[Spectrum | None, Spectrum | None]]


def spectra(reference: torch.Tensor, side: Side) -> Spectra:
    """The one decomposition of every matrix of a tensor that all its bases come from."""
    return [
        (decompose(matrix) if side != "input" else None, decompose(matrix.T) if side != "output" else None)
        for matrix in matrices(reference)
    ]


def bases(name: str, shape: tuple[int, ...], decomposed: Spectra, subspace: str, seed: int) -> list[Basis]:
    """The bases of one subspace for every matrix of a tensor."""

    def one(spectrum: Spectrum | None, size: tuple[int, int], label: str) -> torch.Tensor | None:
        return None if spectrum is None else subspace_basis(subspace, spectrum, size, seed, label)

    m, n = shape[-2:] if len(shape) > 1 else (1, 1)
    return [
        Basis(one(left, (m, n), f"{label}/output"), one(right, (n, m), f"{label}/input"))
        for label, (left, right) in zip(matrix_names(name, shape), decomposed, strict=False)
    ]
