"""SPPFT (Li et al.): safety lies in a few contiguous blocks, where harmful and harmless prompts come apart."""

from collections.abc import Mapping

import torch
from jaxtyping import Float

from safespan.checkpoints import block_of
from safespan.subspaces.captured import CapturedActivations
from safespan.subspaces.hypothesis import hypothesis
from safespan.subspaces.training_claims import Frozen
from safespan.subspaces.weight_matrix import WeightMatrix


def remark_on(captured: CapturedActivations) -> str:
    """That the gap opens in no block, in one line; empty if it does."""
    widenings = widening(captured.residual_stream("useful"), captured.residual_stream("harmful"))
    if any(value > 0 for value in widenings.values()):
        return ""
    return "in no block do useful and harmful prompts come apart; the blocks where they come together least are taken"


@hypothesis(
    "safety-layers",
    claim="safety lies in contiguous blocks, those over which harmful and harmless activations come apart most",
    paper="https://arxiv.org/abs/2408.17003",
    needs=["prompts"],
    kind="blocks",
    authors_tests=["training"],
    remark=remark_on,
)
def safety_layers(matrix: WeightMatrix) -> Frozen | None:
    """g_ℓ − g_{ℓ−1} of the matrix's block ℓ = 1 … L, g_0 = 0.

    g_ℓ = mean cos(N, N′) − mean cos(N, M), of the residual stream after block ℓ at the last token: over all pairs of
    two useful prompts N, N′, and of a useful and a harmful one M. The scores of blocks a … b add up to
    g_b − g_{a−1}, how much the gap widens over them.
    """
    block = block_of(matrix.name)
    if block is None:
        return None
    widenings = matrix.once(
        "safety-layers", lambda: widening(matrix.residual_stream("useful"), matrix.residual_stream("harmful"))
    )
    return Frozen(widenings[block + 1]) if block + 1 in widenings else None


def widening(
    useful: Mapping[int, Float[torch.Tensor, "N d"]], harmful: Mapping[int, Float[torch.Tensor, "M d"]]
) -> dict[int, float]:
    """Layer ℓ -> g_ℓ − g_{ℓ−1}; empty where there are no two useful prompts, or no harmful one."""
    gaps = {layer: gap(useful[layer], harmful[layer]) for layer in sorted(useful.keys() & harmful.keys())}
    if None in gaps.values():
        return {}
    return {layer: (own or 0.0) - (gaps.get(layer - 1) or 0.0) for layer, own in gaps.items()}


def gap(useful: Float[torch.Tensor, "N d"], harmful: Float[torch.Tensor, "M d"]) -> float | None:
    """Mean cosine of two different useful rows − that of a useful and a harmful row; None where there is no pair.

    The mean over all pairs is that of the sums of unit vectors.
    """
    n, others = len(useful), len(harmful)
    if n < 2 or not others:
        return None
    units = [torch.nn.functional.normalize(rows.double(), dim=1) for rows in (useful, harmful)]
    sums = [unit.sum(0) for unit in units]
    alike = float(sums[0] @ sums[0] - (units[0] ** 2).sum()) / (n * (n - 1))
    return alike - float(sums[0] @ sums[1]) / (n * others)
