"""What is of the processes of this machine alone: what they tell, and how they begin and end."""

import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import torch
from rich.progress import Progress

from safespan import progress
from safespan.execution import capacity, execution
from safespan.execution.capacity import free_memory, room_for_workers
from safespan.execution.processes import Processes
from safespan.progress import note, progress_task
from safespan.settings.execution import ExecutionConfig

HANGS = 3600
"""Seconds that no machine needs."""


class Call(NamedTuple):
    name: str
    work: Callable[[], object]


class Caller:
    """Does what it is given."""

    def __call__(self, job: Call) -> object:
        return job.work()

    def close(self) -> None:
        pass


def results(engine, *work, group=lambda job: job.name):
    jobs = [Call(f"job {number}", one) for number, one in enumerate(work)]
    done = dict(engine.run_jobs(Caller, jobs, group))
    return [done[job] for job in jobs]


@pytest.fixture(scope="module")
def processes():
    """Two of them, started once: it takes seconds."""
    with closing(Processes(ExecutionConfig(workers=2), lambda: 0)) as engine:
        yield engine


def test_the_same_processes_serve_all_jobs_and_are_gone_at_the_end():
    with closing(Processes(ExecutionConfig(workers=2), lambda: 0)) as engine:
        assert engine._processes == []
        first, second = ({*results(engine, *[os.getpid] * 6)} for _ in range(2))
        assert first == second
        assert len(first) == 2
        assert os.getpid() not in first
    assert not any(psutil.pid_exists(number) for number in first)


def settings():
    return torch.get_num_threads(), os.environ["OMP_NUM_THREADS"], os.getcwd(), sys.path


def test_a_process_has_its_threads_and_this_ones_folder_and_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with closing(Processes(ExecutionConfig(workers=2, cpus_per_worker=3), lambda: 0)) as engine:
        assert results(engine, settings, settings) == [(3, "3", str(tmp_path), sys.path)] * 2


def where():
    return os.getpid(), torch.get_num_threads()


def test_a_single_job_and_a_single_worker_need_no_process(tmp_path):
    engine = Processes(ExecutionConfig(workers=2, cpus_per_worker=3), lambda: 0)
    assert results(engine, where) == [
        (os.getpid(), 3)
    ]  # the threads of a process: as many jobs are left, the same bits
    alone = Processes(ExecutionConfig(workers=1, cpus_per_worker=3), lambda: 0)
    assert results(alone, where, where) == [(os.getpid(), torch.get_num_threads())] * 2


def tell():
    with progress_task("steps") as tick:
        tick(1, 3)
    note("a line that stays")
    logging.getLogger("safespan.somewhere").warning("of %d things", 2)
    logging.getLogger("safespan.elsewhere").warning("not for anyone")
    warnings.warn("once only", UserWarning, stacklevel=1)
    print("out")
    print("err", file=sys.stderr)


def test_what_a_process_tells_is_as_if_this_one_told_it(processes, capfd, caplog):
    shown = []
    display = progress.Display(Progress(auto_refresh=False), shown.append)
    ticked = []
    display.tick = lambda task, done, total: ticked.append((display.progress.tasks[-1].description, done, total))
    logging.getLogger("safespan.elsewhere").setLevel(logging.ERROR)
    token = progress._display.set(display)
    try:
        with pytest.warns(UserWarning, match="once only"):
            results(processes, tell, os.getpid)
    finally:
        progress._display.reset(token)
        logging.getLogger("safespan.elsewhere").setLevel(logging.NOTSET)
    assert shown == ["a line that stays"]
    assert ticked == [("job 0: steps", 1, 3)]
    assert display.progress.tasks == []
    assert [record.getMessage() for record in caplog.records] == ["of 2 things"]
    assert capfd.readouterr() == ("out\n", "err\n")


class CannotBeSentError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def fail():
    raise CannotBeSentError(1, 2)


def test_an_error_that_nobody_expects_has_the_traceback_of_its_process(processes):
    with pytest.raises(ZeroDivisionError) as raised:
        results(processes, partial(divmod, 1, 0), os.getpid)
    assert "worker_process.py" in raised.value.__notes__[0]
    with pytest.raises(RuntimeError, match="^1 and 2\n") as raised:
        results(processes, fail, os.getpid)
    assert "in fail" in raised.value.__notes__[0]


SCRIPT = """
import os, signal, sys
from contextlib import closing
from functools import partial
from safespan.execution.processes import Processes
from safespan.settings.execution import ExecutionConfig
from test_processes import Call, Caller, hold

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it runs in the background
print("begins", flush=True)
with closing(Processes(ExecutionConfig(workers=2), lambda: 0)) as engine:
    jobs = [Call(name, partial(hold, sys.argv[1], name)) for name in "ab"]
    done = dict(engine.run_jobs(Caller, jobs, lambda job: job))
print(len(done), "done")
"""


def hold(folder: str, name: str) -> None:
    """Say that the job has begun, and clean up at its end; wait for a file `go`, if told so."""
    mark = Path(folder) / f"{name} {os.getpid()}"
    mark.touch()
    try:
        while not (Path(folder) / "go").exists():
            signal.sigtimedwait([], 0.05)
    finally:
        mark.unlink()


@pytest.fixture
def script(tmp_path):
    """A user's script without `if __name__ == "__main__"`, which is at work in two processes; and their numbers."""
    (tmp_path / "script.py").write_text(SCRIPT)
    marks = tmp_path / "marks"
    marks.mkdir()
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    process = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", marks],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(list(marks.iterdir())) < 2 and process.poll() is None:
        signal.sigtimedwait([], 0.05)
    yield process, marks, [psutil.Process(int(mark.name.split()[1])) for mark in marks.iterdir()]
    process.kill()
    process.communicate()


def test_a_script_without_a_guard_is_not_run_again_by_its_processes(script):
    process, marks, children = script
    assert len(children) == 2
    (marks / "go").touch()
    assert process.communicate(timeout=HANGS) == ("begins\n2 done\n", "")
    assert process.returncode == 0
    assert psutil.wait_procs(children, HANGS)[1] == []


def test_processes_clean_up_and_end_when_the_one_that_started_them_is_killed(script):
    process, marks, children = script
    process.kill()
    assert psutil.wait_procs(children, HANGS)[1] == []
    assert list(marks.iterdir()) == []
    assert process.communicate(timeout=HANGS) == ("begins\n", "")


def test_an_interrupted_script_takes_its_processes_along_and_they_clean_up(script):
    process, marks, children = script
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=HANGS)[1]
    assert psutil.wait_procs(children, 0)[1] == []
    assert list(marks.iterdir()) == []
    assert printed.rstrip().endswith("KeyboardInterrupt")
    assert printed.count("Traceback") == 1


@pytest.fixture
def machine(monkeypatch):
    """Eight cores, ten gigabytes, no GPU."""
    monkeypatch.setattr(capacity, "usable_cores", lambda: 8)
    monkeypatch.setattr(capacity, "free_memory", lambda: 10e9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_there_are_as_many_workers_as_cores_and_memory_allow(machine):
    assert room_for_workers(1, 1000) == 8
    assert room_for_workers(3, 1000) == 2
    assert room_for_workers(9, 1000) == 1
    assert room_for_workers(1, 1_000_000_000) == 2  # four times the weights, and a gigabyte
    assert room_for_workers(1, 100_000_000_000) == 1


def test_on_a_gpu_there_is_one_unless_the_settings_say_otherwise(machine, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert execution(ExecutionConfig()).workers == 1
    assert execution(ExecutionConfig(workers=5)).workers == 5


def test_the_memory_of_a_control_group_counts(tmp_path):
    free = free_memory(tmp_path, tmp_path / "none")
    assert 0 < free <= psutil.virtual_memory().total
    (tmp_path / "membership").write_text("12:devices:/other\n0::/a/b\n")
    for folder, limit in {"a": 5000, "a/b": "max"}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "memory.max").write_text(f"{limit}\n")
        (tmp_path / folder / "memory.current").write_text("3000\n")
        (tmp_path / folder / "memory.stat").write_text("anon 2000\ninactive_file 700\n")
    assert free_memory(tmp_path, tmp_path / "membership") == 5000 - 3000 + 700
