import errno
import os
import socket
import subprocess
import sys

import pytest

from safespan.errors import ConfigError
from safespan.files import scratch
from safespan.files.atomic import atomic_path
from safespan.files.locks import exclusive_lock

HOLDER = """
import sys, time
from pathlib import Path
from safespan.files.locks import exclusive_lock
with exclusive_lock(Path(sys.argv[1])):
    print("there", flush=True)
    time.sleep(600)
"""


@pytest.mark.long
def test_a_folder_is_one_processs_until_it_ends_however_it_ends(tmp_path, in_another_process):
    folder = tmp_path / "run"
    holder = in_another_process(HOLDER, folder)
    holds = f"{folder} is in use by process {holder.pid} on {socket.gethostname()}: wait until it ends"
    with pytest.raises(ConfigError, match=holds), exclusive_lock(folder):
        pass
    second = [sys.executable, "-m", "safespan", "demo", "--out", folder]
    ended = subprocess.run(second, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (2, f"safespan: {holds}, or give another folder\n")
    holder.kill()
    holder.wait()
    with exclusive_lock(folder):
        assert [path.name for path in folder.iterdir()] == [".lock"]


def test_a_file_system_without_locks_is_used_with_a_warning_and_nothing_there_is_cleared(tmp_path, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    (tmp_path / ".model.abcdefgh.safespan").mkdir()
    monkeypatch.setattr(scratch.fcntl, "flock", no_locks)
    with exclusive_lock(tmp_path), atomic_path(tmp_path / "model") as part:
        part.write_text("whole")
    assert "without locks" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", ".model.abcdefgh.safespan", "model"]
