"""Experiments 1 and 2: task updates projected on and off a subspace (METHODS §2)."""

from safespan.projection.family import FRACTIONS, METHODS, Family, ProjectionGrid
from safespan.projection.sweep import sweep
from safespan.projection.tensor import References, TensorProjection, references, tensor_projections
from safespan.projection.write import write_projected

__all__ = [
    "FRACTIONS",
    "METHODS",
    "Family",
    "ProjectionGrid",
    "References",
    "TensorProjection",
    "references",
    "sweep",
    "tensor_projections",
    "write_projected",
]
