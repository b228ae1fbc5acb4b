"""Work on a Ray cluster."""

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

from safespan.errors import ConfigError, SafespanError
from safespan.execution.local import Item, Job, Result, Worker
from safespan.linalg.device import threads
from safespan.settings.execution import ExecutionConfig

_MOST_DEATHS = 3
"""Of workers on one and the same job, before it is taken to be what kills them."""


class OnRay:
    """A Ray cluster. What a killed worker was doing is done again by another; results come back to this process.

    Every node needs safespan and the same paths to the checkpoints and the run folder.
    """

    def __init__(self, config: ExecutionConfig) -> None:
        """Join the cluster, or start one on this machine.

        Raises:
            ConfigError: Ray is not installed, or nothing answers at the address.
        """
        if config.address and (Path.home() / ".ray" / "auth_token").exists():
            os.environ.setdefault("RAY_AUTH_MODE", "token")  # as Ray itself does for a cluster that it finds
        try:
            import ray
        except ImportError:
            raise ConfigError("engine ray needs Ray: pip install 'safespan[ray]'") from None
        self._ray: Any = ray
        self._config = config
        if config.address and config.address != "auto":
            _knock(config.address)  # Ray itself would wait for minutes
        if not ray.is_initialized():
            _join(ray, config.address)
        self._resources = {"num_cpus": config.cpus_per_worker, "num_gpus": config.gpus_per_worker}

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """A task an item, one thread each; twice as many are sent as can run, so that none waits for its next."""
        resources = {**self._resources, "num_cpus": 1}
        task = self._ray.remote(max_retries=_MOST_DEATHS, **resources)(_single_threaded)
        sent, place = self._ray.put(work), os.getcwd()
        waiting = iter(items)
        begun = deque(task.remote(sent, item, place) for item in islice(waiting, 2 * self._fitting(cpus=1)))
        while begun:
            yield self._result(begun.popleft())
            begun.extend(task.remote(sent, item, place) for item in islice(waiting, 1))

    def run_jobs(
        self, make: Callable[[], Worker], jobs: Sequence[Job], group: Callable[[Job], Hashable]
    ) -> Iterator[tuple[Job, Any]]:
        """An actor a worker. When one dies, another begins with the job that it was doing."""
        actor = self._ray.remote(max_restarts=0, **self._resources)(_Actor)
        sent, place = self._ray.put(make), os.getcwd()
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
            return actor.remote(sent, self._config.cpus_per_worker, place)

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
                            f"{job.name} ended its worker {_MOST_DEATHS} times ({_first(error)})"
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
        """How many processes of so many CPUs, and a worker's GPUs, the cluster holds at a time."""
        there = self._ray.cluster_resources()
        fits = there.get("CPU", 1) / cpus
        if self._config.gpus_per_worker:
            fits = min(fits, there.get("GPU", 0) / self._config.gpus_per_worker)
        if fits < 1:
            raise ConfigError(
                f"the Ray cluster has {there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs: too few for "
                f"a worker of {cpus} and {self._config.gpus_per_worker:g}; "
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
            raise SafespanError(f"Ray could not do it: {_first(error)}") from None


class _Actor:
    """A worker in a process of Ray's."""

    def __init__(self, make: Callable[[], Worker], cores: int, place: str) -> None:
        os.chdir(place)
        self._threads = threads(cores)
        self._threads.__enter__()
        self._make = make

    @cached_property
    def _worker(self) -> Worker:
        """Made with the first job, so that what goes wrong is that job's error."""
        return self._make()

    def run(self, job: Any) -> Any:
        return self._worker(job)

    def close(self) -> None:
        self._worker.close()


def _single_threaded(work: Callable[[Any], Any], item: Any, place: str) -> Any:
    os.chdir(place)
    with threads(1):
        return work(item)


def _next(waiting: list[Job], last: Job | None, running: Sequence[Job], group: Callable[[Job], Hashable]) -> Job:
    """Take the job that costs a worker least to begin: of its last one's group, else of a group nobody is at."""
    own = None if last is None else group(last)
    taken = {group(job) for job in running}
    job = min(waiting, key=lambda job: (group(job) != own, group(job) in taken))
    waiting.remove(job)
    return job


def _join(ray: Any, address: str | None) -> None:
    own = {"include_dashboard": False} if address is None else {}
    ends = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="error", **own)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        hint = "; if it asks for a token, set RAY_AUTH_MODE=token" if address else ""
        raise ConfigError(f"no Ray cluster answers at {address or 'this machine'} ({_first(error)}){hint}") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, ends)  # Ray sets its own


def _knock(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise ConfigError(f"Ray address {address!r}: expected HOST:PORT of the cluster's head, or auto")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ConfigError(f"no Ray cluster answers at {address} ({error})") from None


def _first(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
