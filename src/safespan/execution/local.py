"""What it takes to run a study's work, and work in this process."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from safespan.linalg.parallel import parallel_map

Item = TypeVar("Item")
Job = TypeVar("Job", bound="Named")
Result = TypeVar("Result")


class Named(Hashable, Protocol):
    """A job; its name is for messages."""

    @property
    def name(self) -> str:
        """What it is called."""


class Worker(Protocol):
    """Does one job after another; what it loads for one serves the next."""

    def __call__(self, job: Any, /) -> Any:
        """Do one job."""

    def close(self) -> None:
        """Let go of what it holds."""


class Execution(Protocol):
    """Two ways to run work: items without state, and jobs for workers that hold a model."""

    @property
    def workers(self) -> int:
        """The most jobs that run at a time; known once there is an aligned model."""

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items."""

    def run_jobs(
        self, make: Callable[[], Worker], jobs: Sequence[Job], group: Callable[[Job], Hashable]
    ) -> Iterator[tuple[Job, Any]]:
        """(job, result) as they are done; a worker goes on with jobs of one group while it can.

        Args:
            make: makes a worker; it is pickled where workers have processes of their own, as are jobs and results.
            jobs: of any length: a set of prompts, or a training of hours.
            group: jobs of one group share work.
        """

    def close(self) -> None:
        """End the processes that were started for it."""


class Local:
    """This process: tensors side by side on its cores, one model under test."""

    workers = 1
    map = staticmethod(parallel_map)

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

    def close(self) -> None:
        """Nothing was started."""
