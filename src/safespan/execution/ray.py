"""Execution on a Ray cluster."""

import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from safespan.errors import ConfigError, SafespanError, first_line
from safespan.execution.local import Item, Job, Result, Worker
from safespan.linalg.device import threads
from safespan.settings.execution import ExecutionConfig

_MOST_DEATHS = 3
"""Deaths of workers on one job, after which the job is an error."""


class OnRay:
    """A Ray cluster. The job of a killed worker is done again by another; results return to this process.

    Every node needs safespan and the same paths to the checkpoints and the run folder.
    """

    def __init__(self, config: ExecutionConfig) -> None:
        """Join the cluster, or start one on this machine.

        Raises:
            ConfigError: Ray is not installed, or nothing answers at the address.
        """
        if config.address and config.address != "auto":
            _knock(config.address)  # Ray itself would wait for minutes
        if config.address and (Path.home() / ".ray" / "auth_token").exists():
            os.environ.setdefault("RAY_AUTH_MODE", "token")  # as Ray itself does with address auto
        try:
            import ray
        except ImportError:
            raise ConfigError("engine ray needs Ray: pip install 'safespan[ray]'") from None
        self._ray: Any = ray
        self._config = config
        if not ray.is_initialized():
            _join(ray, config.address)
        self._resources = {"num_cpus": config.cpus_per_worker, "num_gpus": config.gpus_per_worker}

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """One task per item, of one thread; twice as many are submitted as can run, so that no CPU is idle."""
        resources = {**self._resources, "num_cpus": 1}
        task = self._ray.remote(max_retries=_MOST_DEATHS, **resources)(_single_threaded)
        sent, folder = self._ray.put(work), os.getcwd()
        waiting = iter(items)
        begun = deque(task.remote(sent, item, folder) for item in islice(waiting, 2 * self._fitting(cpus=1)))
        while begun:
            yield self._result(begun.popleft())
            begun.extend(task.remote(sent, item, folder) for item in islice(waiting, 1))

    def run_jobs(
        self, make: Callable[[], Worker], jobs: Sequence[Job], group: Callable[[Job], Hashable]
    ) -> Iterator[tuple[Job, Any]]:
        """One actor per worker. When one dies, a new one begins with its job."""
        actor = self._ray.remote(max_restarts=0, **self._resources)(_Actor)
        sent, folder = self._ray.put(make), os.getcwd()
        waiting, deaths = list(jobs), dict.fromkeys(jobs, 0)
        running: dict[Any, tuple[Any, Job]] = {}

        def begin(worker: Any, last: Job | None) -> None:
            if waiting:
                job = _next(waiting, last, [job for _, job in running.values()], group)
                running[worker.run.remote(job)] = (worker, job)
            else:
                with suppress(self._ray.exceptions.RayActorError):  # it may be dead already
                    self._result(worker.close.remote())
                self._ray.kill(worker)

        def new() -> Any:
            return actor.remote(sent, self._config.cpus_per_worker, folder)

        try:
            workers = self._config.workers or self._fitting(self._config.cpus_per_worker)
            for _ in range(min(workers, len(jobs))):
                begin(new(), None)
            while running:
                [done], _ = self._ray.wait(list(running), num_returns=1)
                worker, job = running.pop(done)
                try:
                    result = self._result(done)
                except self._ray.exceptions.RayActorError as error:
                    deaths[job] += 1
                    if deaths[job] == _MOST_DEATHS:
                        raise SafespanError(
                            f"{job.name} ended its worker {_MOST_DEATHS} times ({first_line(error)})"
                        ) from None
                    waiting.insert(0, job)
                    begin(new(), job)
                    continue
                begin(worker, job)
                yield job, result
        finally:
            for worker, _ in running.values():
                self._ray.kill(worker)

    def _fitting(self, cpus: int) -> int:
        """Number of processes with these CPUs, and the GPUs of a worker, that fit the cluster."""
        resources = self._ray.cluster_resources()
        fits = resources.get("CPU", 1) / cpus
        if self._config.gpus_per_worker:
            fits = min(fits, resources.get("GPU", 0) / self._config.gpus_per_worker)
        if fits < 1:
            raise ConfigError(
                f"the Ray cluster has {resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs: too few "
                f"for a worker of {cpus} and {self._config.gpus_per_worker:g}; "
                "change execution.cpus_per_worker or execution.gpus_per_worker"
            )
        return int(fits)

    def _result(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            # Ray's own message holds the worker's traceback.
            raise error.cause if isinstance(error.cause, SafespanError) else error from None
        except self._ray.exceptions.RayActorError:
            raise
        except self._ray.exceptions.RayError as error:
            raise SafespanError(f"Ray could not do it: {first_line(error)}") from None


class _Actor:
    """A worker in a process of Ray."""

    def __init__(self, make: Callable[[], Worker], cores: int, folder: str) -> None:
        os.chdir(folder)
        self._threads = threads(cores)
        self._threads.__enter__()
        self._make = make

    @cached_property
    def _worker(self) -> Worker:
        """Made with the first job, so that errors are those of the job."""
        return self._make()

    def run(self, job: Any) -> Any:
        return self._worker(job)

    def close(self) -> None:
        self._worker.close()


def _single_threaded(work: Callable[[Item], Result], item: Item, folder: str) -> Result:
    os.chdir(folder)
    with threads(1):
        return work(item)


def _next(waiting: list[Job], last: Job | None, running: Sequence[Job], group: Callable[[Job], Hashable]) -> Job:
    """Take a job of the group of the worker's last job, else of a group that no other worker runs."""
    last_group = None if last is None else group(last)
    running_groups = {group(job) for job in running}
    job = min(waiting, key=lambda job: (group(job) != last_group, group(job) in running_groups))
    waiting.remove(job)
    return job


def _join(ray: Any, address: str | None) -> None:
    options = {"include_dashboard": False} if address is None else {}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="error", **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        hint = "; if it asks for a token, set RAY_AUTH_MODE=token" if address else ""
        place = address or "this machine"
        raise ConfigError(f"no Ray cluster answers at {place} ({first_line(error)}){hint}") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray sets its own


def _knock(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise ConfigError(f"Ray address {address!r}: expected HOST:PORT of the cluster's head, or auto")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ConfigError(f"no Ray cluster answers at {address} ({error})") from None
