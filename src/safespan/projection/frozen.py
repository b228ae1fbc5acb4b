"""Which blocks of a model a claim freezes, and random blocks beside them (METHODS §7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

import torch

from safespan.checkpoints import block_of
from safespan.linalg.parallel import parallel_map
from safespan.projection.family import Family
from safespan.settings.names import Side, check_shares
from safespan.subspaces import Decompose, Frozen, Hypothesis
from safespan.subspaces.bases import seeded

_ENOUGH = 4
"""Other runs of blocks that a model must have for controls to be contiguous too."""


@dataclass(frozen=True)
class Blocks:
    """The blocks that a claim speaks of, by number.

    Attributes:
        tensors: names of the claimed tensors of each.
        scores: of each, the mean over its matrices.
    """

    tensors: Mapping[int, list[str]]
    scores: Mapping[int, float]


def claimed_blocks(family: Family, claim: Hypothesis, side: Side, seed: int, decompose: Decompose) -> Blocks:
    """What a claim of kind `blocks` says of the matrices of every block."""
    names = [name for name in family.names() if len(family.aligned.shapes[name]) > 1 and block_of(name) is not None]
    by_tensor = parallel_map(lambda name: claim.evaluate(family.tensor(name, side, seed, decompose)), names)
    tensors, scores = dict[int, list[str]](), dict[int, list[float]]()
    for name, claims in zip(names, by_tensor, strict=True):
        own = [one.score for one in claims if isinstance(one, Frozen)]
        block = block_of(name)
        if own and block is not None:
            tensors.setdefault(block, []).append(name)
            scores.setdefault(block, []).extend(own)
    numbers = sorted(tensors)
    return Blocks({n: tensors[n] for n in numbers}, {n: fmean(scores[n]) for n in numbers})


def leading_run(scores: Mapping[int, float], fraction: float) -> list[int]:
    """The contiguous max(1, round(f · L)) of L blocks whose scores have the largest sum; of equal ones the first.

    Raises:
        ConfigError: the fraction is outside (0, 1].
    """
    check_shares("fraction", [fraction])
    found = _runs(sorted(scores), max(1, round(fraction * len(scores)))) if scores else []
    return max(found, key=lambda run: sum(scores[number] for number in run), default=[])


def random_run(numbers: Sequence[int], frozen: Sequence[int], seed: int) -> list[int]:
    """As many other blocks, drawn: a contiguous run, or, where the model has fewer than four others, any set.

    Args:
        numbers: all blocks.
        frozen: those of the claim, which are not drawn as they are; not all.
        seed: of the draw.
    """
    others = [run for run in _runs(numbers, len(frozen)) if run != list(frozen)]
    if len(others) < _ENOUGH:
        others = [list(some) for some in combinations(numbers, len(frozen)) if list(some) != list(frozen)]
    return others[int(torch.randint(len(others), (1,), generator=seeded(seed, "blocks", "model")))]


def _runs(numbers: Sequence[int], length: int) -> list[list[int]]:
    return [list(numbers[start : start + length]) for start in range(len(numbers) - length + 1)]
