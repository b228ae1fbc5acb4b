import os
import signal

import pytest

from safespan.files import scratch
from safespan.files.atomic import atomic_path
from safespan.files.scratch import clear_leftovers, replace_atomically, scratch_folder

HALF = """
import sys, time
from pathlib import Path
from safespan.files.atomic import atomic_path
with atomic_path(Path(sys.argv[1])) as part:
    part.write_text("half")
    print("there", flush=True)
    time.sleep(600)
"""


def write(folder, text):
    folder.mkdir()
    (folder / "file").write_text(text)


def test_what_a_killed_process_left_goes_and_what_a_living_one_holds_stays(tmp_path, in_another_process):
    table = tmp_path / "deep" / "table.csv"
    dead, living = (in_another_process(HALF, table) for _ in range(2))
    assert len(list(table.parent.iterdir())) == 2
    dead.kill()
    dead.wait()
    clear_leftovers(tmp_path)
    [left] = table.parent.iterdir()
    with atomic_path(table) as part:
        part.write_text("whole")
    assert set(table.parent.iterdir()) == {left, table}
    living.kill()
    living.wait()
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
        scratch.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        with scratch_folder(tmp_path, "model") as folder:
            write(folder / "model", "new")
            replace_atomically(folder / "model", target)
    os.waitpid(child, 0)
    assert not target.exists()
    clear_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [target]
    assert (target / "file").read_text() == "new"


def test_a_scratch_folder_is_gone_after_an_interruption(tmp_path):
    def interrupted():
        with scratch_folder(tmp_path, "scratch") as folder:
            (folder / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
