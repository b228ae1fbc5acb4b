"""What it takes to run a study's work somewhere."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

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
    """Two ways to spread work: items without state, and jobs for workers that hold a model."""

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items."""

    def run_jobs(
        self, make: Callable[[], Worker], jobs: Sequence[Job], group: Callable[[Job], Hashable]
    ) -> Iterator[tuple[Job, Any]]:
        """(job, result) as they are done; a worker goes on with jobs of one group while it can."""
