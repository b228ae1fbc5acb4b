import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from faults.campaign import tmpfs
from safespan.files import durable
from safespan.files.atomic import append
from safespan.files.disk import make_folder, explain_disk_full
from safespan.files.locks import exclusive_lock
from safespan.files.scratch import clear_leftovers, put, scratch_folder
from safespan.errors import ConfigError, DiskFullError
from safespan.files.atomic import atomic_path, write_text

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")

HALF = """
import sys, time
from pathlib import Path
from safespan.results import atomic_path, write_text
with atomic_path(Path(sys.argv[1])) as part:
    part.write_text("half")
    print("there", flush=True)
    time.sleep(600)
"""
HOLDER = """
import sys, time
from pathlib import Path
from safespan.durable import exclusive_lock
with exclusive_lock(Path(sys.argv[1])):
    print("there", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def in_another_process():
    """Run code until it prints, and leave it waiting."""
    running = []

    def run(code, path):
        running.append(subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True))
        assert running[-1].stdout.readline() == "there\n"
        return running[-1]

    yield run
    for process in running:
        kill(process)


def kill(process):
    process.kill()
    process.wait()


def write(folder, text):
    folder.mkdir()
    (folder / "file").write_text(text)


def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    done = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(number):
        done.append(("sync", Path(os.readlink(f"/proc/self/fd/{number}")).name))
        real_sync(number)

    def replace(part, target):
        done.append(("rename", Path(target).name))
        real_replace(part, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    with atomic_path(tmp_path / "new" / "model") as part:
        write(part, "weights")
    named = done.index(("rename", "model"))
    assert {("sync", "file"), ("sync", "model"), ("sync", tmp_path.name)} <= set(done[:named])
    assert ("sync", "new") in done[named:]


def test_what_a_killed_process_left_goes_and_what_a_living_one_holds_stays(tmp_path, in_another_process):
    table = tmp_path / "deep" / "table.csv"
    dead, living = (in_another_process(HALF, table) for _ in range(2))
    assert len(list(table.parent.iterdir())) == 2
    kill(dead)
    clear_leftovers(tmp_path)
    [left] = table.parent.iterdir()
    with atomic_path(table) as part:
        part.write_text("whole")
    assert set(table.parent.iterdir()) == {left, table}
    kill(living)
    with atomic_path(table) as part:
        part.write_text("whole")
    assert list(table.parent.iterdir()) == [table]


def test_what_looks_like_a_leftover_and_is_none_stays(tmp_path):
    names = [".model.abcdefgh", ".model.safespan", "model.abcdefgh.safespan"]
    for name in names:
        (tmp_path / name).mkdir()
    clear_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_a_kill_between_the_two_steps_of_replacing_a_folder_loses_neither(tmp_path):
    target = tmp_path / "model"
    write(target, "old")
    child = os.fork()
    if child == 0:
        durable.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        with scratch_folder(tmp_path, "model") as scratch:
            write(scratch / "model", "new")
            put(scratch / "model", target)
    os.waitpid(child, 0)
    assert not target.exists()
    clear_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [target]
    assert (target / "file").read_text() == "new"


def test_a_folder_is_one_processs_until_it_ends_however_it_ends(tmp_path, in_another_process):
    folder = tmp_path / "run"
    holder = in_another_process(HOLDER, folder)
    holds = f"{folder} is in use by process {holder.pid} on {socket.gethostname()}: wait until it ends"
    with pytest.raises(ConfigError, match=holds), exclusive_lock(folder):
        pass
    second = [sys.executable, "-m", "safespan", "demo", "--out", folder]
    said = subprocess.run(second, capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (2, f"safespan: {holds}, or give another folder\n")
    kill(holder)
    with exclusive_lock(folder):
        assert [path.name for path in folder.iterdir()] == [".lock"]


def test_a_file_system_without_locks_is_used_with_a_warning_and_nothing_there_is_cleared(tmp_path, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    (tmp_path / ".model.abcdefgh.safespan").mkdir()
    monkeypatch.setattr(durable.fcntl, "flock", no_locks)
    with exclusive_lock(tmp_path), atomic_path(tmp_path / "model") as part:
        part.write_text("whole")
    assert "without locks" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", ".model.abcdefgh.safespan", "model"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_wherever_it_is_in_the_chain(tmp_path, number):
    place = tmp_path / "no" / "table.csv"

    def full():
        with explain_disk_full(place):
            try:
                raise OSError(number, os.strerror(number))
            except OSError as error:
                raise RuntimeError("could not save") from error

    with pytest.raises(DiskFullError) as raised:
        full()
    assert str(raised.value).startswith(f"{place} cannot be written: {os.strerror(number)}, ")
    assert "MB free there; make space and run the same command again" in str(raised.value)


def test_other_errors_are_left_as_they_are(tmp_path):
    with pytest.raises(RuntimeError, match="^something else$"), explain_disk_full(tmp_path):
        raise RuntimeError("something else")


@pytest.mark.parametrize(
    ("write", "name"),
    [
        pytest.param(lambda place: make_folder(place / "file" / "new"), "file", id="a folder below a file"),
        pytest.param(lambda place: write_text(place / "file" / "new", "x"), "file", id="a file below a file"),
        pytest.param(lambda place: write_text(place / "folder", "x"), "folder", id="a file over a folder"),
        pytest.param(lambda place: append(place / "folder", "x"), "folder", id="a line at the end of a folder"),
        pytest.param(lambda place: write_folder(place / "file"), "file", id="a folder over a file"),
        pytest.param(lambda place: write_text(place / ("x" * 300), "x"), "x" * 300, id="a long name"),
        pytest.param(lambda place: exclusive_lock(place / "file").__enter__(), "file", id="a run in a file"),
        pytest.param(lambda _: write_text(Path("/proc/x"), "x"), "/proc/x", id="where nothing can be made"),
    ],
)
def test_where_nothing_can_be_written_is_one_line(tmp_path, write, name):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=f"{name} cannot be written: .+; give another place"):
        write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "old"


def write_folder(target: Path) -> None:
    with atomic_path(target) as part:
        part.mkdir()


@root
@pytest.mark.parametrize("writer", ["bytes", "torch", "safetensors"])
def test_on_a_full_disk_the_old_stays_and_nothing_half(tmp_path, writer):
    big = torch.zeros(1_000_000)
    writers = {
        "bytes": lambda part: part.write_bytes(b"0" * 4_000_000),
        "torch": lambda part: torch.save(big, part),
        "safetensors": lambda part: save_file({"weights": big}, part),
    }

    def write_big(target):
        with atomic_path(target) as part:
            writers[writer](part)

    with tmpfs(tmp_path / "disk", 1_000_000):
        target = tmp_path / "disk" / "table.csv"
        target.write_text("old")
        with pytest.raises(DiskFullError, match="table.csv cannot be written: No space left on device, .* MB free"):
            write_big(target)
        assert target.read_text() == "old"
        assert list(target.parent.iterdir()) == [target]


def test_a_scratch_folder_is_gone_after_an_interruption(tmp_path):
    def interrupted():
        with scratch_folder(tmp_path, "scratch") as scratch:
            (scratch / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
