"""How many worker processes this machine has room for."""

import math
from pathlib import Path

import psutil

from safespan.linalg.device import device
from safespan.linalg.processor import CONTROL_GROUPS, MEMBERSHIP, groups_of_this_process, usable_cores

_COPIES = 4
"""Of a model's weights in float32 that a worker holds at most: when it trains, weights, gradients and two moments."""

_LIBRARIES = 1_000_000_000
"""Bytes that a process needs beside the model, for what it imports and for activations."""


def room_for_workers(cores: int, model_bytes: int) -> int:
    """Number of worker processes that the cores and the free memory of this machine allow; on a GPU one.

    Args:
        cores: of each worker.
        model_bytes: of the weights of a model in float32.
    """
    if device().type == "cuda":
        return 1
    by_memory = free_memory() // (_COPIES * model_bytes + _LIBRARIES)
    return int(max(1, min(usable_cores() // cores, by_memory)))


def free_memory(control_groups: Path = CONTROL_GROUPS, membership: Path = MEMBERSHIP) -> float:
    """Bytes that this process can take: what is available, unless a control group (version 2) allows less.

    Args:
        control_groups: where control groups are mounted.
        membership: names the group of this process.
    """
    available = float(psutil.virtual_memory().available)
    return min(available, *map(_left, groups_of_this_process(control_groups, membership)), math.inf)


def _left(group: Path) -> float:
    """Bytes that a control group has left; what it keeps of files can be dropped."""
    try:
        limit = (group / "memory.max").read_text(encoding="utf-8").strip()
        used = int((group / "memory.current").read_text(encoding="utf-8"))
        statistics = dict(line.split() for line in (group / "memory.stat").read_text(encoding="utf-8").splitlines())
    except OSError:
        return math.inf
    return math.inf if limit == "max" else int(limit) - used + int(statistics.get("inactive_file", 0))
