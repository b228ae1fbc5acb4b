"""Where the time of a sweep goes: every function that it calls, timed in one single-threaded process.

Each moment counts for the innermost function of Python, torch or numpy that was running, and for the category of the
innermost safespan function around it that `CATEGORIES` knows; what none of them claims is "the rest".
"""

import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial
from types import FrameType
from typing import Any

import torch
from benchmarks.speed import ours

CATEGORIES = (
    # category, module, function: the first line that matches; a function that matches none counts for its caller
    ("read checkpoints", r"safespan\.checkpoints", r".*"),
    ("eigenvectors", r"safespan\..*", r".*eigh\w*"),
    ("Gram matrices, left vectors", r"safespan\..*", r".*(decompose|factori[sz]e|spectrum_of|spectra)"),
    ("random bases", r"safespan\..*", r".*random\w*"),
    ("coefficients, energies", r"safespan\..*", r".*(coefficients|energ|inner_product|squared_norm)\w*"),
)
REST = "the rest"
_TOP = 15


def profiled(folder: str, finetunes: Sequence[str], fractions: Sequence[float]) -> Callable[[], dict[str, Any]]:
    """A side: seconds of a sweep by category and of the functions that took most."""
    torch.set_num_threads(1)
    return partial(_profiled, ours.sweep(folder, finetunes, fractions))


def _profiled(work: Callable[[], Any]) -> dict[str, Any]:
    clock = _Clock()
    start = time.perf_counter()
    sys.setprofile(clock)
    try:
        work()
    finally:
        sys.setprofile(None)
    total = time.perf_counter() - start
    categories: Counter[str] = Counter()
    for (category, _), seconds in clock.spent.items():
        categories[category] += seconds
    functions = [{"category": c, "function": f, "seconds": s} for (c, f), s in clock.spent.most_common(_TOP)]
    return {"seconds": total, "categories": dict(categories), "functions": functions}


class _Clock:
    """A profile function that keeps the stack of running functions and gives each moment to the top one."""

    def __init__(self) -> None:
        self.spent: Counter[tuple[str, str]] = Counter()
        self._stack: list[tuple[str, str]] = [(REST, "")]
        self._since = time.perf_counter()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        now = time.perf_counter()
        self.spent[self._stack[-1]] += now - self._since
        if event == "call":
            module, function = frame.f_globals.get("__name__", ""), frame.f_code.co_qualname
            self._stack.append((_category(module, function) or self._stack[-1][0], f"{module}.{function}"))
        elif event == "c_call":
            owner = getattr(argument, "__module__", None) or type(getattr(argument, "__self__", None)).__name__
            self._stack.append((self._stack[-1][0], f"{owner}.{argument.__name__}"))
        elif len(self._stack) > 1:
            self._stack.pop()
        self._since = time.perf_counter()


@cache
def _category(module: str, function: str) -> str | None:
    last = function.rpartition("<locals>.")[2]
    for category, modules, functions in CATEGORIES:
        if re.fullmatch(modules + r"(\..*)?", module) and re.fullmatch(functions, last):
            return category
    return None
