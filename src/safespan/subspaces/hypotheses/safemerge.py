"""SafeMERGE (Djuhera et al.): layers whose update is far from Δ_A are merged with those of a safety-tuned model."""

from safespan.linalg.kernels import product
from safespan.subspaces.hypotheses.safelora import approximate_projection, cosine
from safespan.subspaces.hypothesis import Edit, hypothesis
from safespan.subspaces.weight_matrix import WeightMatrix

_TASK, _SAFE = 0.8, 0.2
"""Weights of the two models: the defaults of the paper's code."""


@hypothesis(
    "safemerge",
    claim="safety survives where the layers whose updates are far from Δ_A are merged with a safety-tuned model's",
    paper="https://arxiv.org/abs/2503.17239",
    needs=["base", "safe"],
    kind="layers",
    authors_tests=["update"],
)
def safemerge(matrix: WeightMatrix) -> Edit:
    """0.8 Δ_T + 0.2 Δ_S, a linear merge of the updates; the score is Safe LoRA's cosine."""
    return Edit(_TASK * matrix.task + _SAFE * matrix.safety, _score(matrix))


@hypothesis(
    "safemerge-factors",
    claim="as `safemerge`, with the factors of two adapters merged in place of their products",
    paper="https://arxiv.org/abs/2503.17239",
    needs=["base", "safe"],
    kind="layers",
    authors_tests=["update"],
)
def safemerge_factors(matrix: WeightMatrix) -> Edit | None:
    """B_m A_m with B_m = √0.8 B_T + √0.2 B_S and A_m alike, as the paper's code has PEFT do it.

    Beside 0.8 Δ_T + 0.2 Δ_S this has the cross terms 0.4 (B_T A_S + B_S A_T). None unless both updates are adapters' of
    equal rank.
    """
    task, safe = matrix.factors("task"), matrix.factors("safety")
    if task is None or safe is None or task[0].shape != safe[0].shape:
        return None
    left, right = (_TASK**0.5 * of_task + _SAFE**0.5 * of_safe for of_task, of_safe in zip(task, safe, strict=True))
    return Edit(product(left, right), _score(matrix))


def _score(matrix: WeightMatrix) -> float:
    return cosine(matrix.task, approximate_projection(matrix))
