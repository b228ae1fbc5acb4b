"""The subspaces of METHODS §2: ordered orthonormal bases whose first k columns span the subspace of rank k."""

import hashlib

import torch
from jaxtyping import Float

from safespan.errors import ConfigError
from safespan.subspaces.spectrum import Spectrum, orthonormal

SUBSPACES = ("alignment", "safety", "random-k", "random")
"""Names of the known subspaces."""


def rank_of_fraction(fraction: float, shape: tuple[int, int]) -> int:
    """k = max(1, round(f · min(m, n))) (METHODS §2).

    Raises:
        ConfigError: the fraction is outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"fraction {fraction} is outside (0, 1]")
    return max(1, round(fraction * min(shape)))


def subspace_basis(
    subspace: str, spectrum: Spectrum, shape: tuple[int, int], seed: int, name: str
) -> Float[torch.Tensor, "m k"]:
    """The ordered basis of one subspace on the output side of one matrix.

    Prefixes of a random basis are random subspaces themselves, so one seeded draw serves every fraction, method
    and fine-tune, and subspaces of growing rank are nested.

    Args:
        subspace: `alignment` and `safety` (the leading left singular vectors of the given spectrum), `random-k`
            (the same vectors in random order) or `random` (Haar-distributed).
        spectrum: of Δ_A; of Δ_S for `safety`.
        shape: (m, n) of the matrix.
        seed: of the random controls.
        name: of the matrix, so that every matrix gets a draw of its own, whatever the order of work.

    Returns:
        [m, k] float32, k ≤ min(m, n): the numerical rank of the spectrum, or min(m, n) for `random`.

    Raises:
        ConfigError: the name is not one of `SUBSPACES`.
    """
    if subspace in ("alignment", "safety"):
        return spectrum.left.float()
    generator = torch.Generator().manual_seed(_seed_for(seed, subspace, name))
    if subspace == "random-k":
        order = torch.randperm(spectrum.left.shape[1], generator=generator)
        return spectrum.left[:, order].float()
    if subspace == "random":
        gaussian = torch.randn(shape[0], min(shape), generator=generator, dtype=torch.float64)
        return orthonormal(gaussian).float()
    raise ConfigError(f"unknown subspace {subspace!r}: expected one of {', '.join(SUBSPACES)}")


def _seed_for(seed: int, subspace: str, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{subspace}/{name}".encode()).digest()[:8], "big") >> 1
