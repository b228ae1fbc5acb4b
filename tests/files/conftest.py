"""Processes that are held at a place in their code."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Start = Callable[[str, Path], subprocess.Popen[str]]


@pytest.fixture
def in_another_process() -> Iterator[Start]:
    """Run code with a path as its argument until it prints `there`, and leave it waiting."""
    running: list[subprocess.Popen[str]] = []

    def start(code: str, path: Path) -> subprocess.Popen[str]:
        running.append(subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True))
        assert running[-1].stdout.readline() == "there\n"
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()
