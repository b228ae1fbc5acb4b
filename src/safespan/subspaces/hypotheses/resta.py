"""RESTA (Bhardwaj et al.): what a harmful fine-tuning does to the aligned model is subtracted from a fine-tune."""

from safespan.subspaces.hypothesis import Edit, hypothesis
from safespan.subspaces.weight_matrix import WeightMatrix

_GAMMA = 1.0
"""γ at fraction 1, so that the fraction is the paper's γ."""


@hypothesis(
    "resta",
    claim="safety is restored by adding the safety vector −Δ_H: the aligned model less one tuned on harmful answers",
    paper="https://arxiv.org/abs/2402.11746",
    needs=["harmful"],
    kind="addition",
    authors_tests=["update"],
)
def resta(matrix: WeightMatrix) -> Edit:
    """Δ_T + γ (W_A − W_H) = Δ_T − γ Δ_H, without the paper's optional DARE."""
    return Edit(matrix.task - _GAMMA * matrix.harmful)
