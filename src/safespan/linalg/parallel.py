"""A parallel map over tensors: most are too small for one decomposition to use several cores."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Protocol, TypeVar, runtime_checkable

import torch

from safespan.linalg.device import device, thread_budget, threads

Item = TypeVar("Item")
Result = TypeVar("Result")


@runtime_checkable
class ParallelMap(Protocol):
    """`parallel_map`, or the same over a cluster."""

    def __call__(self, work: Callable[[Item], Result], items: Iterable[Item], /) -> Iterator[Result]:
        """Results in the order of the items."""


def parallel_map(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results in the order of the items, from as many single-threaded workers as `thread_budget` says.

    On a GPU there are two workers: one computes while the other reads. At most two items per worker are in progress or
    wait to be consumed. The first exception of `work` stops the map.
    """
    workers = 2 if device().type == "cuda" else thread_budget()
    with threads(1):
        if workers == 1:
            yield from map(work, items)
            return
        # A new thread starts with all of torch's threads, whatever its parent has.
        pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
        try:
            waiting = iter(items)
            begun: deque[Future[Result]] = deque(pool.submit(work, item) for item in islice(waiting, 2 * workers))
            while begun:
                yield begun.popleft().result()
                begun.extend(pool.submit(work, item) for item in islice(waiting, 1))
        finally:
            pool.shutdown(cancel_futures=True)
