"""One tensor's task update, projected."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from safespan.kernels import inner_product, squared_norm
from safespan.projection.family import Family
from safespan.subspaces import (
    Basis,
    Decompose,
    Side,
    random_bases,
    rank_of_fraction,
    reordered,
    spectra,
    spectral_bases,
)
from safespan.updates import matrices, update


@dataclass(frozen=True)
class Directions:
    """One subspace of one tensor.

    Attributes:
        bases: one a matrix of the tensor; none if it is 1-D.
        reference: Δ_A, or Δ_S for the safety subspace: the one direction of a 1-D tensor.
        coefficients_of: the subspace whose coefficients are its own too, up to their order.
    """

    bases: list[Basis]
    reference: torch.Tensor
    coefficients_of: str


def directions(
    family: Family,
    name: str,
    alignment: torch.Tensor,
    subspaces: tuple[str, ...],
    side: Side,
    seed: int,
    decompose: Decompose,
) -> dict[str, Directions]:
    """The subspaces of one tensor, which serve every fine-tune, method and fraction; each update decomposed once.

    Args:
        family: the checkpoints.
        name: of the tensor.
        alignment: Δ_A of the tensor.
        subspaces: their names.
        side: of the bases.
        seed: of the random subspaces.
        decompose: how an update is decomposed.
    """
    found: dict[str, Directions] = {}
    shape = tuple(alignment.shape)
    if {"alignment", "random-k"} & set(subspaces):
        leading = spectral_bases(spectra(alignment, side, decompose))
        found["alignment"] = Directions(leading, alignment, "alignment")
        found["random-k"] = Directions(reordered(leading, name, shape, seed), alignment, "alignment")
    if "safety" in subspaces and family.safe is not None:
        safety = update(name, family.aligned, family.safe)
        found["safety"] = Directions(spectral_bases(spectra(safety, side, decompose)), safety, "safety")
    if "random" in subspaces:
        drawn = random_bases(name, shape, side, seed, alignment.device)
        found["random"] = Directions(drawn, alignment, "random")
    return {subspace: found[subspace] for subspace in subspaces}


def projections(delta: torch.Tensor, known: Mapping[str, Directions]) -> Iterator[tuple[str, "TensorProjection"]]:
    """(subspace, projection) of one task update; what two subspaces share is computed once."""
    coefficients: dict[str, list[torch.Tensor]] = {}
    for subspace, along in known.items():
        if along.coefficients_of not in coefficients:
            coefficients[along.coefficients_of] = [
                basis.coefficients(matrix) for basis, matrix in zip(along.bases, matrices(delta), strict=True)
            ]
        yield subspace, TensorProjection(delta, along, coefficients[along.coefficients_of])


class TensorProjection:
    """A task update of one tensor, resolved along one subspace, ready for every fraction.

    A 1-D tensor has no subspace: its parallel part is c·Δ, c = ⟨Δ_T, Δ⟩ / ⟨Δ, Δ⟩ (0 where Δ = 0), at any fraction.

    Args:
        delta: Δ_T in the tensor's own shape.
        along: the subspace.
        coefficients: of every matrix of Δ_T along its basis.
    """

    def __init__(self, delta: torch.Tensor, along: Directions, coefficients: list[torch.Tensor]) -> None:
        """Compute the energies of every rank once."""
        self.shape = tuple(delta.shape)
        self.bases, self.coefficients = along.bases, coefficients
        self._energies = [basis.energies(c) for basis, c in zip(self.bases, coefficients, strict=True)]
        self.line: torch.Tensor | None = None
        if delta.ndim < 2:
            norm = squared_norm(along.reference)
            self.line = along.reference * (inner_product(delta, along.reference) / norm if norm else 0.0)

    def energy(self, fraction: float) -> float:
        """‖P_k‖²_F at the rank of that fraction."""
        if self.line is not None:
            return squared_norm(self.line)
        k = rank_of_fraction(fraction, (self.shape[-2], self.shape[-1]))
        return sum((float(known[min(k, len(known)) - 1]) for known in self._energies if len(known)), 0.0)

    def parallel(self, fraction: float) -> torch.Tensor:
        """P_k at the rank of that fraction, in the tensor's own shape."""
        if self.line is not None:
            return self.line
        k = rank_of_fraction(fraction, (self.shape[-2], self.shape[-1]))
        parts = [basis.parallel(c, k) for basis, c in zip(self.bases, self.coefficients, strict=True)]
        return parts[0] if len(self.shape) == 2 else torch.stack(parts)


def applied(method: str, delta: torch.Tensor, parallel: torch.Tensor) -> torch.Tensor:
    """What is added to the aligned weight: P, Δ_T − P or −P."""
    if method == "parallel":
        return parallel
    return delta - parallel if method == "orthogonal" else -parallel
