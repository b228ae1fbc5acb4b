"""One tensor's task update, projected."""

from collections.abc import Iterator, Mapping

import torch

from safespan.projection.family import Family
from safespan.subspaces import Basis, Side, Spectra, bases, rank_of_fraction, spectra
from safespan.updates import matrices, update

_CACHED = 1 << 16

References = Mapping[str, tuple[torch.Tensor, Spectra]]
"""What the subspaces of one tensor are made of: `alignment` and, with a safe model, `safety` -> (Δ, decomposition)."""


class TensorProjection:
    """A task update of one tensor, resolved along one subspace, ready for every fraction.

    A 1-D tensor has no subspace: its parallel part is c·Δ, c = ⟨Δ_T, Δ⟩ / ⟨Δ, Δ⟩ (0 where Δ = 0), at any fraction.

    Args:
        delta: Δ_T in the tensor's own shape.
        reference: Δ_A, or Δ_S for the safety subspace, in the same shape.
        tensor_bases: one basis a matrix of the tensor; unused if it is 1-D.
    """

    def __init__(self, delta: torch.Tensor, reference: torch.Tensor, tensor_bases: list[Basis]) -> None:
        """Compute the coefficients once."""
        self.delta = delta
        self._bases = tensor_bases
        self._coefficients = [
            basis.coefficients(matrix) for basis, matrix in zip(tensor_bases, matrices(delta), strict=True)
        ]
        self._line: torch.Tensor | None = None
        if delta.ndim < 2:
            norm = squared_norm(reference)
            self._line = reference * (inner_product(delta, reference) / norm if norm else 0.0)

    def energy(self, fraction: float) -> float:
        """‖P_k‖²_F at the rank of that fraction."""
        if self._line is not None:
            return squared_norm(self._line)
        total = 0.0
        for basis, coefficients in zip(self._bases, self._coefficients, strict=True):
            cumulated = basis.energies(coefficients)
            k = min(self._rank(fraction), len(cumulated))
            total += float(cumulated[k - 1]) if k else 0.0
        return total

    def applied(self, method: str, fraction: float) -> torch.Tensor:
        """What is added to the aligned weight: P, Δ_T − P or −P."""
        if self._line is not None:
            inside = self._line
        else:
            k = self._rank(fraction)
            parts = [b.parallel(c, k) for b, c in zip(self._bases, self._coefficients, strict=True)]
            inside = torch.stack(parts) if self.delta.ndim == 3 else parts[0]
        if method == "parallel":
            return inside
        return self.delta - inside if method == "orthogonal" else -inside

    def _rank(self, fraction: float) -> int:
        return rank_of_fraction(fraction, (self.delta.shape[-2], self.delta.shape[-1]))


def squared_norm(tensor: torch.Tensor) -> float:
    """‖·‖²_F, summed in float64."""
    return inner_product(tensor, tensor)


def inner_product(x: torch.Tensor, y: torch.Tensor) -> float:
    """⟨X, Y⟩, summed in float64, by parts that fit a processor's cache."""
    parts = zip(torch.split(x.reshape(-1), _CACHED), torch.split(y.reshape(-1), _CACHED), strict=True)
    return sum(float(torch.dot(a.double(), b.double())) for a, b in parts)


def references(family: Family, name: str, subspaces: tuple[str, ...], side: Side) -> References:
    """Decompose one tensor's reference updates: once each, for every fine-tune, subspace, method and fraction."""
    updates = {}
    if any(subspace != "safety" for subspace in subspaces):
        updates["alignment"] = update(name, family.base, family.aligned)
    if "safety" in subspaces and family.safe is not None:
        updates["safety"] = update(name, family.aligned, family.safe)
    return {label: (delta, spectra(delta, side)) for label, delta in updates.items()}


def tensor_projections(
    deltas: Mapping[str, torch.Tensor], name: str, decomposed: References, subspaces: tuple[str, ...], seed: int
) -> Iterator[tuple[str, str, TensorProjection]]:
    """(fine-tune, subspace, projection) of one tensor, for every pair of them."""
    for subspace in subspaces:
        reference, tensor_spectra = decomposed["safety" if subspace == "safety" else "alignment"]
        tensor_bases = bases(name, tuple(reference.shape), tensor_spectra, subspace, seed)
        for label, delta in deltas.items():
            yield label, subspace, TensorProjection(delta, reference, tensor_bases)
