"""What a manifest says of the machine and of the code."""

import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

from safespan.study import machine


def test_the_hardware_is_that_of_this_machine():
    told = machine.hardware()
    assert told["cores"] == psutil.cpu_count()
    assert told["memory_gb"] == pytest.approx(psutil.virtual_memory().total / 1e9, abs=0.1)
    assert told["kernels"] in {"DEFAULT", "AVX2", "AVX512", "NO AVX", "ZVECTOR", "VSX", "SVE256", "SVE128"}
    assert told["cpu"]


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git to compare with")
def test_the_commit_is_gits(tmp_path, monkeypatch):
    def git(*words: str, folder: Path) -> str:
        identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        return subprocess.run(
            ["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    def told(folder: Path) -> str | None:
        monkeypatch.setattr(machine, "__file__", str(folder / "src" / "safespan" / "study" / "machine.py"))
        return machine._commit()

    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    assert told(first) is None
    git("init", "--quiet", folder=first)
    assert told(first) is None  # no commit yet
    git("commit", "--quiet", "--allow-empty", "--message", "m", folder=first)
    commit = git("rev-parse", "HEAD", folder=first)
    assert told(first) == commit
    git("worktree", "add", "--quiet", str(second), folder=first)
    assert told(second) == commit
    git("pack-refs", "--all", folder=first)
    assert told(first) == told(second) == commit
    git("checkout", "--quiet", "--detach", folder=second)
    assert told(second) == commit
