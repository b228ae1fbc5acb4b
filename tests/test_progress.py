import io
import os
import pty
import re
import subprocess
import sys
from threading import Event

import pytest

from safespan import progress
from safespan.progress import track, progress_task, note, shown, step


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when told to."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_rate_is_of_what_this_run_did_and_the_time_left_runs_down(clock):
    level = progress.Level("points")
    level.tick(50, 100)
    assert (level.rate, level.left) == (0, None)
    clock[0] += 10
    level.tick(60, 100)
    assert (level.rate, level.left) == (1, 40)
    clock[0] += 4
    assert level.left == 36
    assert level.figures() == ("60/100", "1.0/s", "0:00:36 left")
    clock[0] += 96
    assert level.left == 0
    level.tick(61, 100)
    assert level.figures()[1] == "10.0 s each"


def test_without_a_display_nothing_is_said(capsys):
    with step("stage"), progress_task("points") as tick:
        tick(1, 2)
        assert list(track("items", "abc", 3)) == ["a", "b", "c"]
        note("a line")
    assert capsys.readouterr() == ("", "")


def test_levels_lie_in_one_another_and_what_is_left_open_ends_with_the_outer():
    display = progress.Display(print)
    token = progress._display.set(display)
    try:
        with progress_task("stage"):
            abandoned = track("points", range(9), 9)
            assert [next(abandoned), next(abandoned)] == [0, 1]
            assert [(level.name, level.done, level.total) for level in display.levels] == [
                ("stage", 0, 0), ("points", 1, 9)
            ]  # fmt: skip
        assert display.levels == []
        abandoned.close()
    finally:
        progress._display.reset(token)


def test_elsewhere_than_on_a_terminal_each_stage_is_a_line_and_long_ones_give_signs_of_life(monkeypatch):
    beat = Event()

    class File(io.StringIO):
        def write(self, text):
            if text.startswith("…"):
                beat.set()
            return super().write(text)

    monkeypatch.setattr(sys, "stderr", File())
    monkeypatch.setattr(progress, "HEARTBEAT", 0.05)
    with shown():
        with step("long"), progress_task("points") as tick:
            tick(3, 10)
            assert beat.wait(30)
        with step("[short]"):
            pass
    lines = sys.stderr.getvalue().splitlines()
    assert re.fullmatch(r"… long; points 3/10; 0:00:0\d so far", lines[0])
    assert [re.sub(r"\d+\.\d s", "N s", line) for line in lines if not line.startswith("…")] == [
        "long: N s", "[short]: N s"
    ]  # fmt: skip


def test_another_process_of_a_launch_shows_nothing(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    with shown(), step("training"):
        pass
    assert capsys.readouterr().err == ""


def on_a_terminal(code, **variables):
    """What a terminal gets on standard error of a Python process."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], stderr=theirs, env={**os.environ, **variables})
    os.close(theirs)
    said = b""
    while True:
        try:
            said += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait() == 0
    return said.decode()


def test_on_a_terminal_levels_are_bars_that_go_and_lines_that_stay():
    code = "import time; from safespan import progress; progress._BRIEF = 0\n"
    code += "with progress.shown(), progress.step('stage'):\n for i in progress.counted('points', range(4), 4): "
    code += "time.sleep(0.3)"
    said = on_a_terminal(code, TERM="xterm", COLUMNS="100")
    assert re.search("stage.*\n.*points.*[23]/4", said)
    assert "\x1b[2K" in said
    assert re.search(r"stage: 1\.\d s\r\n", said)
    assert on_a_terminal(code, TERM="dumb").count("\n") == 1
