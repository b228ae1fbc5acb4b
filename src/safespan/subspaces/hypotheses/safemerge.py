"""SafeMERGE: layers whose update points away from the alignment update are merged back towards the aligned model."""

from safespan.subspaces.hypotheses.safelora import approximate_projection, cosine
from safespan.subspaces.hypothesis import Edit, WeightMatrix, hypothesis

_KEPT = 0.5


@hypothesis(
    "safemerge",
    claim="safety survives where the layers whose updates are far from Δ_A are merged back towards W_A",
    paper="https://arxiv.org/abs/2503.17239",
    needs=["base"],
    kind="layers",
)
def safemerge(matrix: WeightMatrix) -> Edit:
    """Δ_T / 2 in the layers with the lowest cosine of Δ_T and C Δ_T; the paper merges with a safety-tuned model."""
    return Edit(_KEPT * matrix.task, cosine(matrix.task, approximate_projection(matrix)))
