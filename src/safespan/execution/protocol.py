"""The interfaces of executions, workers and jobs."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

Item = TypeVar("Item")

Job = TypeVar("Job", bound="Named")

Result = TypeVar("Result")


class Named(Hashable, Protocol):
    """A job; its name is for messages."""

    @property
    def name(self) -> str:
        """Name of the job."""


class Worker(Protocol):
    """Does one job after another, and keeps what it has loaded."""

    def __call__(self, job: Any, /) -> Any:
        """Do one job."""

    def close(self) -> None:
        """Release its resources."""


class Execution(Protocol):
    """Two ways to distribute work: a map over items, and jobs for workers with state."""

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items."""

    def run_jobs(
        self, make: Callable[[], Worker], jobs: Sequence[Job], group: Callable[[Job], Hashable]
    ) -> Iterator[tuple[Job, Any]]:
        """Yield (job, result) as jobs finish; a worker prefers jobs of the group of its last job."""
