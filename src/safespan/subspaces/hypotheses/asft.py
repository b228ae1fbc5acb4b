"""AsFT (Yang et al.): updates off the alignment direction are penalised while they are trained."""

from safespan.subspaces.hypothesis import hypothesis
from safespan.subspaces.training_claims import Penalty
from safespan.subspaces.weight_matrix import WeightMatrix


@hypothesis(
    "asft",
    claim="safety survives training with λ‖(I − C) ΔW‖²_F added to the loss, C = Δ_A Δ_Aᵀ / ‖Δ_A‖_F",
    paper="https://arxiv.org/abs/2506.08473",
    needs=["base"],
    kind="penalty",
    authors_tests=["training"],
)
def asft(matrix: WeightMatrix) -> Penalty:
    """U and σ² / ‖Δ_A‖_F of Δ_A = U Σ Vᵀ, so that U diag(σ²) Uᵀ / ‖Δ_A‖_F = C (0 where Δ_A = 0)."""
    spectrum = matrix.spectrum("alignment")
    squares = spectrum.values**2
    return Penalty(spectrum.left, (squares / (float(squares.sum()) ** 0.5 or 1.0)).float())
