"""Work on tensors side by side: most are too small for one decomposition to keep several cores busy."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import torch

from safespan.linalg.device import device, threads

Item = TypeVar("Item")
Result = TypeVar("Result")

ParallelMap = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
"""How work is spread over items: `parallel_map`, or over a cluster. Results come in the order of the items."""


def parallel_map(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results in the order of the items, from as many single-threaded workers as torch has threads.

    On a GPU two workers take turns: while one's tensor is computed, the other's is read. No more items are begun than
    twice as many as there are workers beyond those whose results were taken. The first exception of `work` ends it all.
    """
    workers = 2 if device().type == "cuda" else torch.get_num_threads()
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
