"""Random rotations of R^m without an m × m matrix, for random controls of any rank on large tensors."""

import numpy as np
import scipy  # loads scipy.fft when it is first used
import torch
from jaxtyping import Float

from safespan.linalg.kernels import squared_norm
from safespan.subspaces.bases import seeded

_ROUNDS = 3
"""Three rounds match Haar rotations in structured random features (arXiv 1610.09072); one round does not."""


class RandomRotation:
    """Q = a permutation of the rows of (DCT · random signs)³: orthogonal, in O(m log m) a column.

    Its first r rows span a random subspace, nested in r. Tests cannot tell it from a Haar rotation.

    Args:
        size: m.
        seed: of the draw.
        name: of the matrix and side, so that each has its own draw.
    """

    def __init__(self, size: int, seed: int, name: str) -> None:
        generator = seeded(seed, "rotation", name)
        self._signs = (2 * torch.randint(0, 2, (_ROUNDS, size, 1), generator=generator) - 1).float().numpy()
        self._order = torch.randperm(size, generator=generator).numpy()

    def apply(self, columns: Float[torch.Tensor, "m n"]) -> Float[torch.Tensor, "m n"]:
        """Q X."""
        rotated = columns.cpu().numpy()
        for signs in self._signs:
            rotated = scipy.fft.dct(rotated * signs, axis=0, norm="ortho")
        return torch.from_numpy(rotated[self._order]).to(columns)

    def invert(self, columns: Float[torch.Tensor, "m n"]) -> Float[torch.Tensor, "m n"]:
        """Qᵀ X."""
        rotated = np.empty(columns.shape, np.float32)
        rotated[self._order] = columns.cpu().numpy()
        for signs in self._signs[::-1]:
            rotated = scipy.fft.idct(rotated, axis=0, norm="ortho") * signs
        return torch.from_numpy(rotated).to(columns)


def random_part(
    delta: Float[torch.Tensor, "m n"], energy: float, spaces: tuple[str | None, str | None], seed: int
) -> Float[torch.Tensor, "m n"]:
    """The part of Δ in a random subspace of the rank that keeps about this energy, rescaled to keep exactly it.

    Args:
        delta: Δ.
        energy: ‖·‖²_F of the result; all of Δ, rescaled, where it is more than Δ has.
        spaces: names of the draws in the outputs and in the inputs; None: it is not of that side. Parts of one draw
            are nested, and have the same directions.
        seed: of the draws.
    """
    whole = squared_norm(delta)
    if energy <= 0 or whole <= 0:
        return torch.zeros_like(delta)
    share = min(1.0, energy / whole) ** (1 / sum(space is not None for space in spaces))
    part = delta
    for space, side in zip(spaces, ("output", "input"), strict=True):
        if space is not None and share < 1:
            part = part if side == "output" else part.T
            rotation = RandomRotation(part.shape[0], seed, space)
            rotated = rotation.apply(part)
            rotated[max(1, round(share * part.shape[0])) :] = 0
            part = rotation.invert(rotated)
            part = part if side == "output" else part.T
    if squared_norm(part) < 1e-9 * whole:  # the first rows of Q can be orthogonal to a Δ of few rows
        part = delta
    rescaled: torch.Tensor = part * (energy / squared_norm(part)) ** 0.5
    return rescaled
