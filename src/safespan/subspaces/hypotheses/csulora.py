"""CSULoRA (Marchenko Breneur et al.): the parts of an update off the subspace of Δ_A are shrunk, in closed form."""

from safespan.linalg.kernels import product, squared_norm
from safespan.subspaces.hypothesis import Edit, hypothesis
from safespan.subspaces.weight_matrix import WeightMatrix

_ENERGY = 0.9
"""Share of Δ_A's energy that the subspace holds."""


@hypothesis(
    "csulora",
    claim="safety survives where the parts of an update off the subspace of Δ_A are shrunk by their relative energy",
    paper="https://arxiv.org/abs/2605.30640",
    needs=["base"],
    kind="layers",
    authors_tests=["update"],
)
def csulora(matrix: WeightMatrix) -> Edit | None:
    """Δ' that minimises ‖Δ' − Δ_T‖² + Σ_c λ_c ‖Δ'_c‖²; the score is the share of Δ_T's energy in the subspace.

    With P and Q the projectors on the leading left and right singular vectors of Δ_A, Δ_T has the parts: aligned,
    P Δ_T Q, which is kept; partly aligned, P Δ_T (I − Q) + (I − P) Δ_T Q; off, (I − P) Δ_T (I − Q). With λ_c the energy
    of a part c relative to the aligned one, each of the other two is multiplied by
    1 / (1 + λ_c) = ‖aligned‖² / (‖aligned‖² + ‖c‖²). None where Δ_A = 0.
    """
    spectrum, task = matrix.spectrum("alignment"), matrix.task
    k = spectrum.rank_for_energy(_ENERGY)
    if not k:
        return None
    left, right = spectrum.left[:, :k], matrix.spectrum("alignment", "input").left[:, :k]
    by_left, by_right = product(left, product(left.T, task)), product(product(task, right), right.T)
    aligned = product(product(by_left, right), right.T)
    kept = squared_norm(aligned)
    update = aligned.clone()
    for part in (by_left + by_right - 2 * aligned, task - by_left - by_right + aligned):
        update += part * (kept / (kept + squared_norm(part) or 1.0))
    return Edit(update, kept / (squared_norm(task) or 1.0))
