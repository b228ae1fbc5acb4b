"""A claim of another's (the example of docs/howto/claim.md)."""

import torch

from safespan.subspaces import Basis, WeightMatrix, hypothesis


@hypothesis(
    "aligned-rows",
    claim="safety lies in the outputs that alignment changed most",
    paper="https://example.org/my-paper",
    needs=["base"],
    removes="alignment",
    authors_tests=["update"],
)
def aligned_rows(matrix: WeightMatrix) -> Basis | None:
    """Unit vectors of the outputs, by the norm of their row of Δ_A, the largest first."""
    if matrix.name.startswith("lm_head"):
        return None  # no claim about this matrix
    order = matrix.alignment.norm(dim=1).argsort(descending=True)
    m = matrix.shape[0]
    return Basis(torch.eye(m, device=order.device)[:, order], None)
