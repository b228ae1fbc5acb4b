"""Bases on the output side, the input side or both sides of the matrices of one tensor."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int

from safespan.kernels import product
from safespan.subspaces.bases import random_basis, random_order
from safespan.subspaces.spectrum import Decompose, Spectrum, decompose
from safespan.updates import matrices, matrix_names

Side = Literal["output", "input", "both"]


@dataclass(frozen=True)
class Basis:
    """Ordered orthonormal bases of one matrix: on its output side, its input side, or both.

    Attributes:
        left: [m, k] or None.
        right: [n, k] or None.
        left_order: the order in which the columns of `left` are taken; as they stand if None.
        right_order: the same of `right`.
    """

    left: Float[torch.Tensor, "m k"] | None
    right: Float[torch.Tensor, "n k"] | None
    left_order: Int[torch.Tensor, " k"] | None = None
    right_order: Int[torch.Tensor, " k"] | None = None

    def coefficients(self, delta: Float[torch.Tensor, "m n"]) -> torch.Tensor:
        """C = UᵀΔ, ΔV or UᵀΔV, columns of U and V as they stand, which serves every rank and every order."""
        result = delta if self.left is None else product(self.left.T, delta)
        return result if self.right is None else product(result, self.right)

    def energies(self, coefficients: torch.Tensor) -> Float[torch.Tensor, " k"]:
        """‖P_k‖²_F for k = 1, 2, …, in float64."""
        squares = coefficients**2
        if self.left is None or self.right is None:
            along = squares.sum(1 if self.right is None else 0, dtype=torch.float64)
            return _taken(along, self.left_order if self.right is None else self.right_order, 0).cumsum(0)
        ordered = _taken(_taken(squares, self.left_order, 0), self.right_order, 1)
        return ordered.double().cumsum(0).cumsum(1).diagonal()

    def in_order(self, coefficients: torch.Tensor) -> tuple["Basis", torch.Tensor]:
        """The basis with its vectors where their order has them, and its coefficients likewise."""
        rows = coefficients if self.left is None else _taken(coefficients, self.left_order, 0)
        both = rows if self.right is None else _taken(rows, self.right_order, 1)
        left = None if self.left is None else _taken(self.left, self.left_order, 1)
        return Basis(left, None if self.right is None else _taken(self.right, self.right_order, 1)), both

    def parallel(self, coefficients: torch.Tensor, k: int, start: int = 0) -> Float[torch.Tensor, "m n"]:
        """P_k: the part of Δ inside the first k directions; with `start`, and a basis of one side, P_k − P_start."""
        result = coefficients
        if self.left is not None:
            chosen = _chosen(self.left_order, start, k)
            result = product(self.left[:, chosen], result[chosen])
        if self.right is not None:
            chosen = _chosen(self.right_order, start, k)
            result = product(result[:, chosen], self.right[:, chosen].T)
        return result


def _taken(values: torch.Tensor, order: torch.Tensor | None, dim: int) -> torch.Tensor:
    return values if order is None else values.index_select(dim, order.to(values.device))


def _chosen(order: torch.Tensor | None, start: int, end: int) -> torch.Tensor | slice:
    return slice(start, end) if order is None else order[start:end]


Spectra = list[tuple[Spectrum | None, Spectrum | None]]
"""(output side, input side) of every matrix of a tensor."""


def spectra(reference: torch.Tensor, side: Side, decomposed: Decompose = decompose) -> Spectra:
    """The one decomposition of every matrix of a tensor that all its bases come from."""
    return [
        (decomposed(matrix) if side != "input" else None, decomposed(matrix.T) if side != "output" else None)
        for matrix in matrices(reference)
    ]


def spectral_bases(found: Spectra) -> list[Basis]:
    """Leading singular vectors first: the `alignment` and `safety` subspaces."""
    return [Basis(*(spectrum.left if spectrum else None for spectrum in sides)) for sides in found]


def reordered(known: list[Basis], name: str, shape: tuple[int, ...], seed: int) -> list[Basis]:
    """The same vectors in random order: the `random-k` subspace. Coefficients of the one serve the other."""
    return [
        replace(
            basis,
            left_order=None if basis.left is None else random_order(basis.left.shape[1], seed, f"{label}/output"),
            right_order=None if basis.right is None else random_order(basis.right.shape[1], seed, f"{label}/input"),
        )
        for label, basis in zip(matrix_names(name, shape), known, strict=False)
    ]


def random_bases(name: str, shape: tuple[int, ...], side: Side, seed: int, device: torch.device) -> list[Basis]:
    """The `random` subspace."""
    if len(shape) < 2:
        return []
    m, n = shape[-2:]
    return [
        Basis(
            random_basis((m, n), seed, f"{label}/output", device) if side != "input" else None,
            random_basis((n, m), seed, f"{label}/input", device) if side != "output" else None,
        )
        for label in matrix_names(name, shape)
    ]
