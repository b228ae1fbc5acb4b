"""The subspaces of METHODS §2: ordered orthonormal bases whose first k columns span the subspace of rank k."""

import hashlib
from functools import lru_cache

import torch
from jaxtyping import Float, Int

from safespan.subspaces.spectrum import orthonormalize

_TALL = 8
"""Times as tall as wide; the basis of a taller matrix is large, and is not kept for another matrix."""


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
    """A Haar-distributed basis of min(m, n) columns, float32; seed and name as in `random_order`.

    One Haar basis is drawn for each seed and size, and its rows are permuted and given signs at random for each matrix.
    So every matrix has a Haar-distributed basis, and the energies that two matrices keep are uncorrelated
    (docs/decisions/0015). A very tall matrix, of which a model has one or two, has a draw of its own. All is drawn on
    the CPU for every device, so that a seed gives the same basis everywhere.
    """
    size, rank = shape[0], min(shape)
    generator = seeded(seed, "random", name)
    if size > _TALL * rank:
        return orthonormalize(torch.randn(size, rank, generator=generator).to(device))
    drawn = _drawn(size, rank, seed, device)
    order = torch.randperm(size, generator=generator)
    signs = 2.0 * torch.randint(0, 2, (size, 1), generator=generator) - 1
    return drawn.index_select(0, order.to(drawn.device)).mul_(signs.to(drawn.device))


@lru_cache(maxsize=3)
def _drawn(size: int, rank: int, seed: int, device: torch.device | None) -> Float[torch.Tensor, "m s"]:
    """The Q of a Gaussian m × s. Kept for the three sizes used last: the matrices of a block have few sizes."""
    gaussian = torch.randn(size, rank, generator=seeded(seed, "random", f"{size} x {rank}"))
    return orthonormalize(gaussian.to(device))


def seeded(seed: int, subspace: str, name: str) -> torch.Generator:
    """The random generator of one matrix and one kind of subspace."""
    digest = hashlib.sha256(f"{seed}/{subspace}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
