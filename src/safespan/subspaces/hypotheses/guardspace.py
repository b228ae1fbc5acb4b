"""GuardSpace (Zhang et al.): updates in the null space of harmful inputs leave what the model does on them as it is."""

from safespan.checkpoints import in_block
from safespan.subspaces.hypothesis import hypothesis
from safespan.subspaces.sides import Basis
from safespan.subspaces.spectrum import decompose
from safespan.subspaces.weight_matrix import WeightMatrix


@hypothesis(
    "guardspace",
    claim="safety survives where updates lie in the null space of a layer's inputs on harmful prompts",
    paper="https://arxiv.org/abs/2510.14301",
    needs=["prompts"],
    removes="weights",
    authors_tests=["training"],
)
def guardspace(matrix: WeightMatrix) -> Basis | None:
    """Left singular vectors of X_harmful, on the side of the inputs, the largest first; all of them leave ΔW X = 0."""
    if not in_block(matrix.name):  # the paper leaves the output head out
        return None
    inputs = matrix.inputs("harmful")
    return None if inputs is None else Basis(None, decompose(inputs.T).left)
