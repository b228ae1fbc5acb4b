"""The number of cores, on machines that the tests describe in files."""

import os
import subprocess
import sys

import psutil
import pytest

from safespan.linalg import processor
from safespan.linalg.processor import usable_cores


@pytest.fixture(autouse=True)
def _unlimited(monkeypatch):
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT")


@pytest.fixture
def cores(tmp_path, monkeypatch):
    """Counts the cores of a machine of four cores with two hardware threads each, with processors 0 to 3 + 4 to 7."""
    monkeypatch.setattr(processor, "_allowed", lambda: range(8))
    for number in range(8):
        topology = tmp_path / f"cpu{number}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{number % 4},{number % 4 + 4}\n")
    (tmp_path / "membership").write_text("12:devices:/other\n0::/a/b\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    return lambda: usable_cores(tmp_path, tmp_path, tmp_path / "membership")


def test_hardware_threads_of_a_core_count_once(cores, monkeypatch):
    assert cores() == 4
    monkeypatch.setattr(processor, "_allowed", lambda: {1, 5, 6})  # both threads of one core, one of another
    assert cores() == 2


def test_without_a_description_every_processor_counts(cores, monkeypatch, tmp_path):
    assert usable_cores(tmp_path / "none", tmp_path, tmp_path / "none") == 8


@pytest.mark.parametrize(
    ("quotas", "number"),
    [
        ({"a/b": "max 100000"}, 4),
        ({"a/b": "300000 100000"}, 3),
        ({"a/b": "250000 100000"}, 2),
        ({"a/b": "50000 100000"}, 1),
        ({"a/b": "900000 100000"}, 4),
        ({"a": "200000 100000", "a/b": "max 100000"}, 2),  # a container around this one has the quota
        ({".": "100000 100000", "a/b": "300000 100000"}, 1),
    ],
)
def test_quotas_of_control_groups_count(cores, tmp_path, quotas, number):
    for group, quota in quotas.items():
        (tmp_path / group / "cpu.max").write_text(f"{quota}\n")
    assert cores() == number


@pytest.mark.parametrize(("limit", "number"), [("3", 3), ("9", 4), ("0", 1), ("all", 4), ("", 4)])
def test_the_environment_lowers_the_number(cores, monkeypatch, limit, number):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", limit)
    assert cores() == number


def test_on_this_machine_there_are_no_more_than_psutil_finds():
    assert 1 <= usable_cores() <= (psutil.cpu_count(logical=False) or psutil.cpu_count())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to processors")
def test_a_process_that_is_bound_to_one_processor_has_one_core():
    program = "import os; from safespan.linalg.processor import usable_cores\n"
    program += "os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1]); print(usable_cores())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


@pytest.mark.parametrize(("given", "number"), [(None, "1"), ("3", "3")])
def test_a_command_gives_its_libraries_as_many_threads_as_there_are_cores(given, number):
    program = "import atexit, os, sys; sys.argv = ['safespan', '--help']; from safespan.cli import main\n"
    program += "atexit.register(lambda: print(os.environ['OMP_NUM_THREADS'])); main()"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"LOKY_MAX_CPU_COUNT": "1"} | ({"OMP_NUM_THREADS": given} if given else {})
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == number
