"""LoX: low-rank extrapolation of the alignment update makes a model robust."""

from safespan.linalg.kernels import product
from safespan.subspaces.hypothesis import Edit, hypothesis
from safespan.subspaces.weight_matrix import WeightMatrix

_RANK, _ALPHA = 6, 1.25


@hypothesis(
    "lox",
    claim="safety is restored by adding more of the leading directions of Δ_A; the paper adds them before fine-tuning, "
    "for robustness",
    paper="https://arxiv.org/abs/2506.15606",
    needs=["base"],
    kind="addition",
)
def lox(matrix: WeightMatrix) -> Edit:
    """Δ_T + α P_k Δ_A with the paper's k = 6, α = 1.25; the paper adds it to W_A and fine-tunes afterwards."""
    left = matrix.spectrum("alignment").left[:, :_RANK]
    return Edit(matrix.task + _ALPHA * product(left, product(left.T, matrix.alignment)))
