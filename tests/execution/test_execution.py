import os
import signal
import socket
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from safespan.errors import ConfigError, DataError, SafespanError
from safespan.execution import execution
from safespan.execution.jobs import next_job
from safespan.execution.local import Local
from safespan.execution.processes import Processes
from safespan.execution.ray import OnRay
from safespan.settings.execution import ExecutionConfig


class Job(NamedTuple):
    group: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.group}{self.number}"


JOBS = [Job(group, number) for group in "abc" for number in range(3)]


class Doubling:
    """Doubles numbers; dies once at each job that has a file in `deaths`, and each time at job a2 if told so."""

    def __init__(self, deaths: Path) -> None:
        self.deaths, self.done = deaths, 0

    def __call__(self, job: Job) -> tuple[int, int]:
        mark = self.deaths / job.name
        if mark.exists():
            if mark.read_text() == "once":
                mark.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if job.number == 99:
            raise DataError("no such number")
        self.done += 1
        return 2 * job.number, self.done

    def close(self) -> None:
        (self.deaths / f"closed {os.getpid()}").touch()


@pytest.fixture(scope="module")
def ray():
    """Started once: it takes seconds."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # workers import this module
        yield OnRay(ExecutionConfig(engine="ray", workers=2))
        ray.shutdown()


@pytest.fixture(scope="module")
def processes():
    """Started once: it takes seconds."""
    with closing(Processes(ExecutionConfig(workers=2), lambda: 0)) as engine:
        yield engine


@pytest.fixture(params=["ray", "processes"])
def engine(request):
    """Two workers in processes of their own."""
    return request.getfixturevalue(request.param)


def squared(item: int) -> int:
    return item**2


def refuse(item: int) -> None:
    raise DataError("not this one")


def group(job: Job) -> str:
    return job.group


def served(engine, deaths, jobs=JOBS):
    return dict(engine.run_jobs(partial(Doubling, deaths), jobs, group))


def test_local_takes_jobs_in_order_with_one_worker(tmp_path):
    assert served(Local(), tmp_path) == {job: (2 * job.number, turn) for turn, job in enumerate(JOBS, 1)}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_worker_stays_with_its_group_and_begins_where_nobody_is():
    waiting = list(JOBS)
    assert next_job(waiting, None, [], group) == Job("a", 0)
    assert next_job(waiting, None, [Job("a", 0)], group) == Job("b", 0)
    assert next_job(waiting, Job("b", 0), [Job("a", 0)], group) == Job("b", 1)
    rest = [Job("a", 2), Job("c", 0)]
    assert next_job(rest, Job("b", 2), [Job("a", 1)], group) == Job("c", 0)
    assert next_job(rest, Job("c", 0), [Job("a", 1)], group) == Job("a", 2)


def test_two_processes_give_the_same_results_and_every_worker_is_closed(engine, tmp_path):
    results = served(engine, tmp_path)
    assert {job: doubled for job, (doubled, _) in results.items()} == {job: 2 * job.number for job in JOBS}
    assert len(list(tmp_path.glob("closed*"))) == 2
    assert list(engine.map(squared, range(20))) == [item**2 for item in range(20)]
    assert served(engine, tmp_path, []) == {}


def test_a_killed_worker_costs_its_job_only(engine, tmp_path):
    for name in ("a1", "b0"):
        (tmp_path / name).write_text("once")
    results = served(engine, tmp_path)
    assert {job: doubled for job, (doubled, _) in results.items()} == {job: 2 * job.number for job in JOBS}


def test_a_job_that_kills_every_worker_is_named(engine, tmp_path):
    (tmp_path / "a2").write_text("always")
    with pytest.raises(SafespanError, match="^a2 ended its worker 3 times"):
        served(engine, tmp_path)


def test_errors_arrive_as_they_were_raised(engine, tmp_path):
    with pytest.raises(DataError, match="^no such number$"):
        served(engine, tmp_path, [Job("a", 1), Job("a", 99)])


def test_an_error_of_an_item_arrives_as_it_was_raised(engine):
    with pytest.raises(DataError, match="^not this one$"):
        list(engine.map(refuse, [1]))


def test_more_than_the_cluster_has(ray):
    asked = OnRay(ExecutionConfig(engine="ray", gpus_per_worker=1))
    with pytest.raises(ConfigError, match="0 GPUs: too few for a worker of 1 and 1"):
        list(asked.map(str, [1]))


def test_an_address_needs_ray():
    with pytest.raises(ConfigError, match="address 'auto' is of a Ray cluster: choose engine ray"):
        execution(ExecutionConfig(address="auto"))


def test_addresses_that_do_not_answer():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        unused = f"127.0.0.1:{free.getsockname()[1]}"
    wrong = {address: "expected HOST:PORT" for address in ("here", "ray://127.0.0.1:1", ":6379", "host:port")}
    for address, says in {unused: f"no Ray cluster answers at {unused}", **wrong}.items():
        with pytest.raises(ConfigError, match=says):
            execution(ExecutionConfig(engine="ray", address=address))
