"""Random rotations of R^m without an m × m matrix, for controls of any rank on tensors of any height."""

import numpy as np
import torch
from jaxtyping import Float
from scipy.fft import dct, idct

from safespan.linalg.kernels import squared_norm
from safespan.subspaces.bases import seeded

_ROUNDS = 3
"""One leaves structure behind; three do as well as Haar in structured random features (arXiv 1610.09072)."""


class RandomRotation:
    """Q = a permutation of the rows of (DCT · random signs)³: orthogonal, in O(m log m) a column.

    Its first r rows span a random subspace, nested in r. What tests can see of it is a Haar rotation's.

    Args:
        size: m.
        seed: of the draw.
        name: of the matrix and side, so that each gets a draw of its own.
    """

    def __init__(self, size: int, seed: int, name: str) -> None:
        """Draw signs and permutation."""
        generator = seeded(seed, "rotation", name)
        self._signs = (2 * torch.randint(0, 2, (_ROUNDS, size, 1), generator=generator) - 1).float().numpy()
        self._order = torch.randperm(size, generator=generator).numpy()

    def apply(self, columns: Float[torch.Tensor, "m n"]) -> Float[torch.Tensor, "m n"]:
        """Q X."""
        turned = columns.cpu().numpy()
        for signs in self._signs:
            turned = dct(turned * signs, axis=0, norm="ortho")
        return torch.from_numpy(turned[self._order]).to(columns)

    def invert(self, columns: Float[torch.Tensor, "m n"]) -> Float[torch.Tensor, "m n"]:
        """Qᵀ X."""
        turned = np.empty(columns.shape, np.float32)
        turned[self._order] = columns.cpu().numpy()
        for signs in self._signs[::-1]:
            turned = idct(turned, axis=0, norm="ortho") * signs
        return torch.from_numpy(turned).to(columns)


def random_part(
    delta: Float[torch.Tensor, "m n"], energy: float, sides: tuple[bool, bool], seed: int, name: str
) -> Float[torch.Tensor, "m n"]:
    """The part of Δ in a random subspace of the rank that keeps about this energy, rescaled to keep exactly it.

    Args:
        delta: Δ.
        energy: ‖·‖²_F of the result; all of Δ, rescaled, where it is more than Δ has.
        sides: whether the subspace is one of the outputs, and of the inputs.
        seed: of the draw; parts of one draw are nested.
        name: of the matrix.
    """
    whole = squared_norm(delta)
    if energy <= 0 or whole <= 0:
        return torch.zeros_like(delta)
    share = min(1.0, energy / whole) ** (1 / sum(sides))
    part = delta
    for chosen, side in zip(sides, ("output", "input"), strict=True):
        if chosen and share < 1:
            part = part if side == "output" else part.T
            rotation = RandomRotation(part.shape[0], seed, f"{name}/{side}")
            turned = rotation.apply(part)
            turned[max(1, round(share * part.shape[0])) :] = 0
            part = rotation.invert(turned)
            part = part if side == "output" else part.T
    if squared_norm(part) < 1e-9 * whole:  # of a few rows, the first of Q can be orthogonal to all of Δ
        part = delta
    rescaled: torch.Tensor = part * (energy / squared_norm(part)) ** 0.5
    return rescaled
