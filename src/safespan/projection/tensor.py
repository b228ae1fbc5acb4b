"""Projection of the task update of one tensor."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch

from safespan.checkpoints.updates import matrices
from safespan.linalg.device import device
from safespan.linalg.kernels import inner_product, squared_norm
from safespan.subspaces import Basis, WeightTensor, find_hypothesis, rank_of_fraction


@dataclass(frozen=True)
class Directions:
    """One subspace of one tensor.

    Attributes:
        bases: one per matrix of the tensor; none if it is 1-D.
        line: the direction of a 1-D tensor.
    """

    bases: list[Basis]
    line: torch.Tensor | None


def directions(tensor: WeightTensor, subspaces: Iterable[str]) -> dict[str, Directions]:
    """The subspaces of one tensor by name, for every fine-tune, method and fraction."""
    by_name = {}
    for name in subspaces:
        hypothesis = find_hypothesis(name)
        bases = [claim if isinstance(claim, Basis) else _empty_basis(tensor) for claim in hypothesis.evaluate(tensor)]
        by_name[name] = Directions(bases, tensor.whole(hypothesis.line) if len(tensor.shape) < 2 else None)
    return by_name


def _empty_basis(tensor: WeightTensor) -> Basis:
    """The basis where a hypothesis makes no claim about a matrix."""
    return Basis(torch.empty(tensor.shape[-2], 0, device=device()), None)


def projections(delta: torch.Tensor, known: Mapping[str, Directions]) -> Iterator[tuple[str, "TensorProjection"]]:
    """(subspace, projection) of one task update; subspaces with the same vectors share their coefficients."""
    coefficients: dict[tuple[int, ...], list[torch.Tensor]] = {}
    for subspace, along in known.items():
        vectors = tuple(id(columns) for basis in along.bases for columns in (basis.left, basis.right))
        if vectors not in coefficients:
            coefficients[vectors] = [
                basis.coefficients(matrix) for basis, matrix in zip(along.bases, matrices(delta), strict=True)
            ]
        yield subspace, TensorProjection(delta, along, coefficients[vectors])


class TensorProjection:
    """The task update of one tensor projected on one subspace, for every fraction.

    A 1-D tensor has no subspace: its parallel part is c·Δ, c = ⟨Δ_T, Δ⟩ / ⟨Δ, Δ⟩ (0 where Δ = 0), at any fraction.

    Args:
        delta: Δ_T in the shape of the tensor.
        along: the subspace.
        coefficients: of every matrix of Δ_T along its basis.
    """

    def __init__(self, delta: torch.Tensor, along: Directions, coefficients: list[torch.Tensor]) -> None:
        self.shape = tuple(delta.shape)
        self.bases, self.coefficients = along.bases, coefficients
        self._energies = [basis.energies(c) for basis, c in zip(self.bases, coefficients, strict=True)]
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
