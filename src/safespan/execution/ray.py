"""Execution on a Ray cluster."""

import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from safespan.errors import ConfigError, SafespanError, first_line
from safespan.execution.jobs import MOST_DEATHS, HostedWorker, WorkerDied, divide
from safespan.execution.local import Item, Job, Result, Worker
from safespan.linalg.device import threads
from safespan.settings.execution import ExecutionConfig


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
        task = self._ray.remote(max_retries=MOST_DEATHS, **resources)(_single_threaded)
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
        actor = self._ray.remote(max_restarts=0, **self._resources)(HostedWorker)
        arguments = self._ray.put(make), self._config.cpus_per_worker, os.getcwd()
        actors = _Actors(self._ray, self._result, lambda: actor.remote(*arguments))
        yield from divide(jobs, actors, self.workers if jobs else 0, group)

    @property
    def workers(self) -> int:
        """As the settings say, or all that fit the cluster."""
        return self._config.workers or self._fitting(self._config.cpus_per_worker)

    def close(self) -> None:
        """Leave the cluster as it is; one that was started here ends with this process."""

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


class _Actors:
    """Actors with workers of one kind.

    Args:
        ray: the module.
        result: what `ray.get` gives, with errors as they were raised.
        start: begins one more.
    """

    def __init__(self, ray: Any, result: Callable[[Any], Any], start: Callable[[], Any]) -> None:
        self._ray, self._result, self.start = ray, result, start
        self._running: dict[Any, Any] = {}
        self._done: Any = None

    def begin(self, actor: Any, job: Any) -> None:
        self._running[actor.run.remote(job)] = actor

    def wait(self) -> Any:
        [self._done], _ = self._ray.wait(list(self._running), num_returns=1)
        return self._running.pop(self._done)

    def result(self, actor: Any) -> Any:
        try:
            return self._result(self._done)
        except self._ray.exceptions.RayActorError as error:
            raise WorkerDied(first_line(error)) from None

    def dismiss(self, actor: Any) -> None:
        with suppress(self._ray.exceptions.RayActorError):  # it may be dead already
            self._result(actor.close.remote())
        self.kill([actor])

    def kill(self, actors: Sequence[Any]) -> None:
        for actor in actors:
            self._ray.kill(actor)


def _single_threaded(work: Callable[[Item], Result], item: Item, folder: str) -> Result:
    os.chdir(folder)
    with threads(1):
        return work(item)


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
