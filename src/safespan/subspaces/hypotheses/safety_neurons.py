"""Safety neurons: the single inputs or outputs of a layer that safety prompts need most, and useful ones least."""

import math

import torch
from jaxtyping import Float, Int

from safespan.checkpoints import in_block, writes_residual_stream
from safespan.subspaces.hypothesis import hypothesis
from safespan.subspaces.sides import Basis
from safespan.subspaces.weight_matrix import WeightMatrix

_UTILITY = 0.1
"""Share of the neurons that counts as utility's: the top 10 % by their score on useful prompts (Wei et al.'s p)."""

Both = tuple[Float[torch.Tensor, "N n"], Float[torch.Tensor, "M n"]]
"""Inputs of a matrix on harmful and on useful prompts."""


@hypothesis(
    "safety-neurons",
    claim="safety lies in the inputs of attention and MLP outputs that vary most on harmful, not on useful prompts",
    paper="https://arxiv.org/abs/2410.10862",
    needs=["prompts"],
    removes="weights",
    authors_tests=["ablation", "training"],
)
def safety_neurons(matrix: WeightMatrix) -> Basis | None:
    """Unit vectors e_j by I_harmful(j) − I_useful(j), the largest first, those above 0; I(j) = ‖W_:j‖² Var(X_j).

    j is a neuron of an MLP, or a channel of an attention head: an input of a matrix that writes to the residual stream.
    """
    inputs = _inputs(matrix)
    if inputs is None or writes_residual_stream(matrix.name) != "output" or min(map(len, inputs)) < 2:
        return None
    weight = matrix.aligned.double().square().sum(0)
    safety, utility = (weight * rows.double().var(0) for rows in inputs)
    specific = safety - utility
    order = specific.argsort(descending=True, stable=True)
    return Basis(None, unit_vectors(order[specific[order] > 0], matrix.shape[1]))


@hypothesis(
    "set-difference-neurons",
    claim="safety lies in the inputs of a layer that matter most on harmful prompts and are not utility's top 10 %",
    paper="https://arxiv.org/abs/2402.05162",
    needs=["prompts"],
    removes="weights",
    authors_tests=["ablation", "training"],
)
def set_difference_neurons(matrix: WeightMatrix) -> Basis | None:
    """Unit vectors e_j by Wanda's score on harmful prompts, without the top 10 % of useful ones.

    The score of a weight is |W_ij| ‖X_j‖₂; that of input j, its sum over the outputs i.
    """
    inputs = _inputs(matrix)
    if inputs is None:
        return None
    weight = matrix.aligned.double().abs().sum(0)
    safety, utility = (weight * _norms(rows) for rows in inputs)
    return Basis(None, unit_vectors(set_difference(safety, utility), matrix.shape[1]))


@hypothesis(
    "fine-grained-neurons",
    claim="safety lies in the outputs of a layer that matter most on harmful prompts and are not utility's top 10 %",
    paper="https://arxiv.org/abs/2508.09190",
    needs=["prompts"],
    removes="weights",
    authors_tests=["update"],
)
def fine_grained_neurons(matrix: WeightMatrix) -> Basis | None:
    """Unit vectors e_i by Wanda's score on harmful prompts, without the top 10 % of useful ones.

    The score of output i is the sum over the inputs j of |W_ij| ‖X_j‖₂.
    """
    inputs = _inputs(matrix)
    if inputs is None:
        return None
    weight = matrix.aligned.double().abs()
    safety, utility = (weight @ _norms(rows) for rows in inputs)
    return Basis(unit_vectors(set_difference(safety, utility), matrix.shape[0]), None)


def set_difference(safety: Float[torch.Tensor, " n"], utility: Float[torch.Tensor, " n"]) -> Int[torch.Tensor, " k"]:
    """Neurons by their score for safety, the largest first, without the top 10 % by that for utility (rounded up)."""
    useful = utility.argsort(descending=True, stable=True)[: math.ceil(_UTILITY * len(utility))]
    order = safety.argsort(descending=True, stable=True)
    return order[~torch.isin(order, useful)]


def unit_vectors(numbers: Int[torch.Tensor, " k"], size: int) -> Float[torch.Tensor, "n k"]:
    """Columns e_j for these numbers j, in their order."""
    columns = torch.zeros(size, len(numbers), device=numbers.device)
    columns[numbers, torch.arange(len(numbers), device=numbers.device)] = 1.0
    return columns


def _inputs(matrix: WeightMatrix) -> Both | None:
    """Inputs on harmful and on useful prompts; None outside the blocks, and where they were not captured."""
    if not in_block(matrix.name):
        return None
    harmful, useful = matrix.inputs("harmful"), matrix.inputs("useful")
    return None if harmful is None or useful is None else (harmful, useful)


def _norms(rows: Float[torch.Tensor, "N n"]) -> Float[torch.Tensor, " n"]:
    """Root of the mean square of each input, so that numbers of prompts do not matter."""
    return rows.double().square().mean(0).sqrt()
