"""Bases on the output side, the input side or both sides of the matrices of one tensor."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int

from safespan.linalg.kernels import product
from safespan.settings.names import Side


@dataclass(frozen=True)
class Basis:
    """Ordered orthonormal bases of one matrix: on its output side, its input side, or both.

    Attributes:
        left: [m, k] or None.
        right: [n, k] or None.
        left_order: the order of the columns of `left`; None for the order they have.
        right_order: the same for `right`.
    """

    left: Float[torch.Tensor, "m k"] | None
    right: Float[torch.Tensor, "n k"] | None
    left_order: Int[torch.Tensor, " k"] | None = None
    right_order: Int[torch.Tensor, " k"] | None = None

    def coefficients(self, delta: Float[torch.Tensor, "m n"]) -> torch.Tensor:
        """C = UᵀΔ, ΔV or UᵀΔV with unordered columns of U and V, for every rank and every order."""
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
        """The basis and its coefficients with the vectors in their order."""
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


def singular_basis(side: Side, vectors: Callable[[Literal["output", "input"]], torch.Tensor]) -> Basis:
    """A basis on the given sides; `vectors` returns the columns of one side."""
    return Basis(vectors("output") if side != "input" else None, vectors("input") if side != "output" else None)
