"""The subspaces of METHODS §2: ordered orthonormal bases whose first k columns span the subspace of rank k."""

import hashlib

import torch
from jaxtyping import Float, Int

from safespan.subspaces.spectrum import orthonormalize


def random_order(rank: int, seed: int, name: str) -> Int[torch.Tensor, " r"]:
    """The order in which `random-k` takes the singular vectors.

    A prefix of a random order is a random choice itself, so one seeded draw serves every fraction, method and
    fine-tune, and subspaces of growing rank are nested. The same holds for `random_basis`.

    Args:
        rank: r, how many there are.
        seed: of the random controls.
        name: of the matrix, so that each has its own draw, whatever the order of work.
    """
    return torch.randperm(rank, generator=seeded(seed, "random-k", name))


def random_basis(
    shape: tuple[int, int], seed: int, name: str, device: torch.device | None = None
) -> Float[torch.Tensor, "m s"]:
    """A Haar-distributed basis: the Q of a Gaussian m × min(m, n), float32; seed and name as in `random_order`.

    Drawn on the CPU for every device, so that a seed gives the same basis everywhere.
    """
    return orthonormalize(torch.randn(shape[0], min(shape), generator=seeded(seed, "random", name)).to(device))


def seeded(seed: int, subspace: str, name: str) -> torch.Generator:
    """The random generator of one matrix and one kind of subspace."""
    digest = hashlib.sha256(f"{seed}/{subspace}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
