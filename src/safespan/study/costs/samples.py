"""Pieces of work that are timed."""

import subprocess  # nosec B404
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from safespan.projection import Family
from safespan.study.costs.work import Shape, Work

_SHORT = 1.0
"""Seconds of a piece that is worth a second time."""


@dataclass(frozen=True)
class Group:
    """Models of one size: base, aligned, and a fine-tune in name."""

    family: Family
    shape: Shape


@dataclass(frozen=True)
class Piece:
    """One piece of work.

    Attributes:
        work: how much it is.
        shape: of its models.
        do: does it.
    """

    work: Work
    shape: Shape
    do: Callable[[], object]

    def seconds(self, alone: bool) -> float:
        """Do it, and say how long it took; what is short is done twice, and the faster one counts.

        Args:
            alone: count the time of the processor, which other programs of a busy machine do not add to; of one thread.
        """
        clock, found = time.process_time if alone else time.perf_counter, []
        for _ in range(2):
            start = clock()
            self.do()
            found.append(clock() - start)
            if found[0] > _SHORT:
                break
        return max(min(found), 1e-6)


def starting() -> float:
    """Seconds until a process has imported what it needs to train and to ask models."""
    start = time.perf_counter()
    code = "import safespan.evaluation, safespan.training.sft, safespan.projection"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)  # nosec B603
    return time.perf_counter() - start
