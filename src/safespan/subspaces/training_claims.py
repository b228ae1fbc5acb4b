"""What claims about training alone return of one matrix: a score of its block, or a penalty on its update."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float

from safespan.errors import HypothesisError
from safespan.linalg.kernels import finite

ORTHONORMAL = 1e-3
"""Largest entry of |QᵀQ − I| that is accepted; float32 arithmetic gives about 1e-6."""

_PROBES = 16


@dataclass(frozen=True)
class Frozen:
    """A matrix that may be frozen with its block.

    Attributes:
        score: how much its block belongs to the claim. The contiguous blocks of the largest sum are frozen.
    """

    score: float

    def check(self, shape: tuple[int, int]) -> None:
        """Raise HypothesisError where the score is no number."""
        if not math.isfinite(self.score):
            raise HypothesisError("its score is NaN or Inf")


@dataclass(frozen=True)
class Penalty:
    """λ ‖(I − C) ΔW‖²_F is added to the loss; C = U diag(c) Uᵀ on the outputs, symmetric, and no projector in general.

    Attributes:
        columns: [m, k], U, orthonormal; no columns: C = 0.
        values: [k], c.
    """

    columns: Float[torch.Tensor, "m k"]
    values: Float[torch.Tensor, " k"]

    def check(self, shape: tuple[int, int]) -> None:
        """Raise HypothesisError unless it is of a matrix of that shape, finite, and its columns are orthonormal."""
        m = shape[0]
        if self.columns.ndim != 2 or self.columns.shape[0] != m or self.columns.shape[1] > m:
            given = list(self.columns.shape)
            raise HypothesisError(f"its columns have shape {given}, expected {m} rows and at most {m} columns")
        if tuple(self.values.shape) != (self.columns.shape[1],):
            raise HypothesisError(f"it has {list(self.values.shape)} values, expected one for each column")
        if not finite(self.columns) or not finite(self.values):
            raise HypothesisError("its columns or values hold NaN or Inf")
        check_orthonormal(self.columns, "columns are")


def check_orthonormal(columns: Float[torch.Tensor, "m k"], what: str) -> None:
    """Raise HypothesisError unless QᵀQ = I.

    E = QᵀQ − I is multiplied by 16 vectors of random signs. This costs a fraction of QᵀQ, and finds a row of E with an
    entry of ε by a value of at least ε in all but 1 of 65,536 cases (either sign of that entry gives one). E itself is
    computed only where a value is too large.
    """
    generator = torch.Generator().manual_seed(0)
    signs = (2.0 * torch.randint(0, 2, (columns.shape[1], _PROBES), generator=generator) - 1).to(columns)
    probed = columns.T @ (columns @ signs) - signs
    if not columns.shape[1] or float(probed.abs().max()) <= ORTHONORMAL:
        return
    deviation = float((columns.T @ columns - torch.eye(columns.shape[1]).to(columns)).abs().max())
    if deviation > ORTHONORMAL:
        raise HypothesisError(f"its {what} not orthonormal (QᵀQ differs from I by {deviation:.2g})")
