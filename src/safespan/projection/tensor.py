"""Projection of the task update of one tensor."""

from dataclasses import dataclass

import torch

from safespan.linalg.device import device
from safespan.linalg.kernels import inner_product, squared_norm
from safespan.linalg.stacks import matrices
from safespan.subspaces import Basis, WeightTensor, find_hypothesis, rank_of_fraction

Coefficients = dict[tuple[int, ...], list[torch.Tensor]]


@dataclass(frozen=True)
class Directions:
    """One subspace of one tensor.

    Attributes:
        bases: one per matrix of the tensor; none if it is 1-D.
        line: the direction of a 1-D tensor.
    """

    bases: list[Basis]
    line: torch.Tensor | None


def directions(tensor: WeightTensor, subspace: str) -> Directions:
    """A subspace of one tensor, for every fine-tune, method and fraction; of no directions where nothing is claimed."""
    hypothesis = find_hypothesis(subspace)
    if len(tensor.shape) < 2:
        line = torch.zeros(tensor.shape, device=device()) if hypothesis.line is None else tensor.whole(hypothesis.line)
        return Directions([], line)
    nothing = Basis(torch.empty(tensor.shape[-2], 0, device=device()), None)
    return Directions([claim if isinstance(claim, Basis) else nothing for claim in hypothesis.evaluate(tensor)], None)


class TensorProjection:
    """The task update of one tensor projected on one subspace, for every fraction.

    A 1-D tensor has no subspace: its parallel part is c·Δ, c = ⟨Δ_T, Δ⟩ / ⟨Δ, Δ⟩ (0 where Δ = 0), at any fraction.

    Args:
        delta: Δ_T in the shape of the tensor.
        along: the subspace.
        shared: coefficients of this Δ_T by the vectors of their bases, for subspaces that differ in the order alone.
    """

    def __init__(self, delta: torch.Tensor, along: Directions, shared: Coefficients | None = None) -> None:
        self.shape, self.bases, shared = tuple(delta.shape), along.bases, {} if shared is None else shared
        vectors = tuple(id(columns) for basis in self.bases for columns in (basis.left, basis.right))
        if vectors not in shared:
            shared[vectors] = [b.coefficients(matrix) for b, matrix in zip(self.bases, matrices(delta), strict=True)]
        self.coefficients = shared[vectors]
        self._energies = [basis.energies(c) for basis, c in zip(self.bases, self.coefficients, strict=True)]
        self.line: torch.Tensor | None = None
        if along.line is not None:
            norm = squared_norm(along.line)
            self.line = along.line * (inner_product(delta, along.line) / norm if norm else 0.0)

    def energy(self, fraction: float) -> float:
        """‖P_k‖²_F at the rank of that fraction."""
        if self.line is not None:
            return squared_norm(self.line)
        k = rank_of_fraction(fraction, (self.shape[-2], self.shape[-1]))
        return sum((float(known[min(k, len(known)) - 1]) for known in self._energies if len(known)), 0.0)

    def parallel(self, fraction: float) -> torch.Tensor:
        """P_k at the rank of that fraction, in the shape of the tensor."""
        if self.line is not None:
            return self.line
        k = rank_of_fraction(fraction, (self.shape[-2], self.shape[-1]))
        projected = [basis.parallel(c, k) for basis, c in zip(self.bases, self.coefficients, strict=True)]
        return projected[0] if len(self.shape) == 2 else torch.stack(projected)


def applied(method: str, delta: torch.Tensor, parallel: torch.Tensor) -> torch.Tensor:
    """The change of the aligned weight: P, Δ_T − P or −P."""
    if method == "parallel":
        return parallel
    return delta - parallel if method == "orthogonal" else -parallel
