"""Several refusal directions (Piras et al.): the neurons of a self-organising map of harmful prompts' activations."""

import numpy as np
import torch
from jaxtyping import Float

from safespan.subspaces.hypotheses.refusal_direction import orthonormal, ranked, remark_of, written
from safespan.subspaces.hypothesis import hypothesis
from safespan.subspaces.sides import Basis
from safespan.subspaces.weight_matrix import WeightMatrix

_SIDE, _STEPS, _RATE, _RADIUS = 4, 10_000, 0.01, 0.33
"""Of the map: 4 × 4 neurons, the steps of its training, and the learning rate and radius that it begins with."""


@hypothesis(
    "refusal-som",
    claim="refusal is several directions: from the harmless mean to a self-organising map of harmful prompts",
    paper="https://arxiv.org/abs/2511.08379",
    needs=["prompts"],
    removes="weights",
    authors_tests=["ablation"],
    remark=remark_of,
)
def refusal_som(matrix: WeightMatrix) -> Basis | None:
    """An orthonormal basis of w_i − μ: w_i the neurons by the harmful prompts they win, μ the mean of the useful ones.

    Neurons that win no prompt are left out. The layer is that of `refusal-direction`.
    """
    candidates = matrix.refusal_candidates()
    if not candidates:
        return None
    layer = ranked(candidates)[0]

    def directions() -> Float[torch.Tensor, "d k"]:
        harmful = matrix.residual_after("harmful", layer).double().cpu().numpy()
        neurons = trained_map(harmful, first_neurons(harmful))
        wins = np.bincount([nearest(neurons, row) for row in harmful], minlength=len(neurons))
        order = [neuron for neuron in np.argsort(-wins, kind="stable") if wins[neuron]]
        centre = matrix.residual_after("useful", layer).double().mean(0)
        return orthonormal([torch.from_numpy(neurons[neuron]).to(centre) - centre for neuron in order])

    return written(matrix, matrix.once("refusal-som", directions))


def first_neurons(rows: Float[np.ndarray, "N d"]) -> Float[np.ndarray, "K d"]:
    """Where the neurons begin: at prompts spread evenly over all, so that no chance is in it."""
    return rows[np.arange(_SIDE**2) * len(rows) // _SIDE**2]


def trained_map(rows: Float[np.ndarray, "N d"], first: Float[np.ndarray, "K d"]) -> Float[np.ndarray, "K d"]:
    """Neurons after training: step t takes the next row x, and w_i += η_t exp(−|i − c|² / 2σ_t²) (x − w_i).

    c is the neuron nearest to x, |i − c| their distance on a hexagonal grid; η and σ fall as 1 / (1 + 2t / T).
    """
    across, down = (axis.ravel().astype(float) for axis in np.mgrid[:_SIDE, :_SIDE])
    across -= 0.5 * (down % 2)
    apart = (across[:, None] - across) ** 2 + 0.75 * (down[:, None] - down) ** 2
    neurons = first.copy()
    for step in range(_STEPS):
        row, fall = rows[step % len(rows)], 1 + 2 * step / _STEPS
        reach = np.exp(-apart[nearest(neurons, row)] / (2 * (_RADIUS / fall) ** 2))
        neurons += (_RATE / fall * reach)[:, None] * (row - neurons)
    return neurons


def nearest(neurons: Float[np.ndarray, "K d"], row: Float[np.ndarray, " d"]) -> int:
    """The neuron at the least distance from a row."""
    return int(((neurons - row) ** 2).sum(1).argmin())
