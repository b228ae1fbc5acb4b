"""Pieces of work that are timed."""

import subprocess  # nosec B404
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from safespan.projection import Family
from safespan.study.costs.work import Shape, Work


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

    def seconds(self) -> float:
        """Do it, and say how long it took."""
        start = time.perf_counter()
        self.do()
        return time.perf_counter() - start


def starting() -> float:
    """Seconds until a process has imported what it needs to train and to ask models."""
    start = time.perf_counter()
    code = "import safespan.evaluation, safespan.training.sft, safespan.projection"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)  # nosec B603
    return time.perf_counter() - start
