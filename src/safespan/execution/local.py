"""Work in this process."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

from safespan.execution.protocol import Item, Job, Result, Worker
from safespan.linalg.parallel import parallel_map


class Local:
    """This process: tensors side by side on its cores, one model under test."""

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """As `linalg.parallel.parallel_map`."""
        return parallel_map(work, items)

    def run_jobs(
        self, make: Callable[[], Worker], jobs: Sequence[Job], group: Callable[[Job], Hashable]
    ) -> Iterator[tuple[Job, Any]]:
        """One job after another, in their order."""
        worker = make()
        try:
            for job in jobs:
                yield job, worker(job)
        finally:
            worker.close()
