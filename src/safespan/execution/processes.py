"""Execution in several processes of this machine."""

import logging
import os
import signal
import subprocess  # nosec B404
import sys
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from safespan.execution.capacity import room_for_workers
from safespan.execution.jobs import WorkerDied, divide
from safespan.execution.local import Job, Local, Worker
from safespan.execution.messages import pack, unpack
from safespan.execution.worker_process import GRACE
from safespan.linalg.device import threads
from safespan.linalg.parallel import parallel_map
from safespan.progress import JobTask, note
from safespan.settings.execution import ExecutionConfig

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables that set the threads of libraries which a process loads later on."""


class Processes:
    """Processes of this machine, each with one model at a time.

    They are started with the first jobs, since their imports take seconds, and serve all jobs until `close`. The job of
    one that is killed is done again by another.

    Args:
        config: workers and their threads.
        model_bytes: bytes of a model's weights in float32; called when there are jobs.
    """

    map = staticmethod(parallel_map)

    def __init__(self, config: ExecutionConfig, model_bytes: Callable[[], int]) -> None:
        self._config, self._model_bytes = config, model_bytes
        self._processes: list[_Process] = []

    @cached_property
    def workers(self) -> int:
        """As the settings say, or as many as this machine has cores and memory for."""
        return self._config.workers or room_for_workers(self._config.cpus_per_worker, self._model_bytes())

    def run_jobs(
        self, make: Callable[[], Worker], jobs: Sequence[Job], group: Callable[[Job], Hashable]
    ) -> Iterator[tuple[Job, Any]]:
        """(job, result) as they are done. A single job runs in this process, with the threads of a worker."""
        cores = self._config.cpus_per_worker
        if not jobs or self.workers == 1:
            yield from Local().run_jobs(make, jobs, group)
        elif len(jobs) == 1:
            with threads(cores):
                done = list(Local().run_jobs(make, jobs, group))
            yield from done
        else:
            host = pack("host", make, cores, os.getcwd())
            yield from divide(jobs, _Hosts(self._processes, host, cores), self.workers, group)

    def close(self) -> None:
        """End the processes."""
        _end(self._processes)
        self._processes.clear()


class _Hosts:
    """Processes with workers of one kind.

    Args:
        processes: all that there are; those that are free are taken before new ones are started.
        host: the message that gives a process its worker.
        cores: threads of a process.
    """

    def __init__(self, processes: "list[_Process]", host: bytes, cores: int) -> None:
        self._processes, self._host, self._cores = processes, host, cores
        self._busy: set[_Process] = set()

    def start(self) -> "_Process":
        process = next((process for process in self._processes if process.is_free()), None)
        if process is None:
            process = _Process(self._cores)
            self._processes.append(process)
        process.hosts = True
        process.send(self._host)
        return process

    def begin(self, process: "_Process", job: Any) -> None:
        process.ask("run", job)
        self._busy.add(process)

    def wait(self) -> "_Process":
        connections = {process.connection: process for process in self._busy}
        while True:
            for process in [connections[ready] for ready in wait(connections) if isinstance(ready, Connection)]:
                if process.has_answered():
                    self._busy.remove(process)
                    return process

    def result(self, process: "_Process") -> Any:
        return process.answer()

    def dismiss(self, process: "_Process") -> None:
        process.ask("close")
        while not process.has_answered():
            pass
        with suppress(WorkerDied):
            process.answer()
            process.hosts = False

    def kill(self, processes: "Sequence[_Process]") -> None:
        _end(processes)


class _Process:
    """A process that hosts one worker after another; see `worker_process`.

    Attributes:
        process: the process.
        connection: to it.
        hosts: whether it has a worker.
    """

    def __init__(self, cores: int) -> None:
        self.connection, theirs = Pipe()
        with theirs:
            descriptor = theirs.fileno()
            # Not by `multiprocessing`, whose processes import the main module: a script would run its study once more.
            main = f"from safespan.execution.worker_process import main; main({descriptor})"
            self.process = subprocess.Popen(  # nosec B603
                [sys.executable, "-c", f"import sys; sys.path[:] = {list(map(str, sys.path))}; {main}"],
                stdin=subprocess.DEVNULL,
                pass_fds=[descriptor],
                env={**os.environ, **dict.fromkeys(_THREADS, str(cores))},
                process_group=0,  # Ctrl-C is for the parent alone
            )
        self.hosts = False
        self._job = JobTask("")
        self._answer: tuple[str, Any] = ("", None)

    def is_free(self) -> bool:
        return not self.hosts and self.process.poll() is None

    def send(self, message: bytes) -> None:
        with suppress(OSError):  # it has died, as the answer will tell
            self.connection.send_bytes(message)

    def ask(self, request: str, *job: Any) -> None:
        """Have it do a job, or close its worker."""
        self._job = JobTask(*(one.name for one in job))
        self.send(pack(request, *job))

    def has_answered(self) -> bool:
        """Wait for one message; pass on what it tells of the work, unless it is the answer."""
        try:
            kind, content = unpack(self.connection.recv_bytes())
        except (EOFError, OSError):
            kind, content = "failed", [WorkerDied(self._how_it_ended())]
        if kind in ("done", "failed"):
            self._job.close()
            self._answer = kind, content[0]
            return True
        (self._job.tick if kind == "tick" else _PASS_ON[kind])(*content)
        return False

    def answer(self) -> Any:
        """What it has answered last: the result, or raise the error."""
        kind, value = self._answer
        if kind == "failed":
            raise value from None
        return value

    def let_go(self) -> None:
        self.connection.close()
        self._job.close()

    def _how_it_ended(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE)
        code = self.process.returncode
        if code == -signal.SIGKILL:
            return "killed, perhaps for want of memory: set execution.workers to fewer"
        return f"its process ended with {code}"


def _end(processes: Sequence[_Process]) -> None:
    """Have processes clean up and exit; kill those that are not done in time."""
    for process in processes:
        process.process.terminate()
    end = time.monotonic() + GRACE
    for process in processes:
        try:
            process.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.process.kill()
            process.process.wait()
        process.let_go()


def _log(record: logging.LogRecord) -> None:
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def _print(stream: str, text: str) -> None:
    getattr(sys, stream).write(text)


_PASS_ON: dict[str, Callable[..., None]] = {
    "note": note,
    "log": _log,
    "warning": warnings.warn_explicit,
    "print": _print,
}
