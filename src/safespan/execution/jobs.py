"""Jobs divided among worker processes, on this machine or another."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from os import chdir
from typing import Any, Protocol, TypeVar

from safespan.errors import SafespanError
from safespan.execution.local import Job, Worker
from safespan.linalg.device import threads

MOST_DEATHS = 3
"""Deaths of workers on one job, after which the job is an error."""

Process = TypeVar("Process", bound=Hashable)


class WorkerDied(Exception):
    """A worker's process ended before its job was done."""


class HostedWorker:
    """A worker in a process of its own.

    Args:
        make: makes the worker.
        cores: threads of its linear algebra.
        folder: the working folder.
    """

    def __init__(self, make: Callable[[], Worker], cores: int, folder: str) -> None:
        chdir(folder)
        self._context = ExitStack()
        self._context.enter_context(threads(cores))
        self._make = make

    @cached_property
    def _worker(self) -> Worker:
        """Made with the first job, so that errors are those of the job."""
        return self._make()

    def run(self, job: Any) -> Any:
        """Do one job."""
        return self._worker(job)

    def close(self) -> None:
        """Let go of what the worker holds."""
        self._worker.close()
        self._context.close()


class Workforce(Protocol[Process]):
    """Processes that each hold a worker of one kind, and do one job at a time."""

    def start(self) -> Process:
        """One more process."""

    def begin(self, process: Process, job: Any, /) -> None:
        """Give it a job."""

    def wait(self) -> Process:
        """Wait for one that has done its job, or died."""

    def result(self, process: Process, /) -> Any:
        """The result of its job.

        Raises:
            WorkerDied: it died.
            SafespanError: raised by the job, as is any other error.
        """

    def dismiss(self, process: Process, /) -> None:
        """Close its worker, which gets no more jobs."""

    def kill(self, processes: Sequence[Process], /) -> None:
        """End them, whatever they do."""


def divide(
    jobs: Sequence[Job], among: Workforce[Process], number: int, group: Callable[[Job], Hashable]
) -> Iterator[tuple[Job, Any]]:
    """Yield (job, result) as they are done by a number of processes; the job of one that dies is done by a new one.

    Raises:
        SafespanError: a job ended several processes.
    """
    waiting, deaths = list(jobs), dict.fromkeys(jobs, 0)
    running: dict[Process, Job] = {}

    def begin(process: Process, last: Job | None) -> None:
        if waiting:
            job = next_job(waiting, last, list(running.values()), group)
            running[process] = job
            among.begin(process, job)
        else:
            among.dismiss(process)

    try:
        for _ in range(min(number, len(jobs))):
            begin(among.start(), None)
        while running:
            process = among.wait()
            job = running[process]
            try:
                result = among.result(process)
            except WorkerDied as error:
                del running[process]
                deaths[job] += 1
                if deaths[job] == MOST_DEATHS:
                    raise SafespanError(f"{job.name} ended its worker {MOST_DEATHS} times ({error})") from None
                waiting.insert(0, job)
                begin(among.start(), job)
                continue
            del running[process]
            begin(process, job)
            yield job, result
    finally:
        among.kill(list(running))


def next_job(waiting: list[Job], last: Job | None, running: Sequence[Job], group: Callable[[Job], Hashable]) -> Job:
    """Take a job of the group of the worker's last job, else of a group that no other worker runs."""
    last_group = None if last is None else group(last)
    running_groups = {group(job) for job in running}
    job = min(waiting, key=lambda job: (group(job) != last_group, group(job) in running_groups))
    waiting.remove(job)
    return job
