import io
import os
import pty
import re
import subprocess
import sys
from threading import Event

from rich.progress import Progress

from safespan import progress
from safespan.progress import note, progress_task, shown, step, track


def test_the_rate_is_of_what_this_run_did_and_tells_the_time_left():
    now = [100.0]
    display = progress.Display(Progress(auto_refresh=False, get_time=lambda: now[0]), print)
    task = display.open("points")

    def figures():
        return progress.figures(display.progress.tasks[0])

    display.tick(task, 50, 100)
    assert figures() == ("50/100", "", "")
    now[0] += 10
    display.tick(task, 60, 100)
    assert figures() == ("60/100", "1.0/s", "0:00:40 left")
    now[0] += 20
    display.tick(task, 61, 100)
    assert figures()[1] == "2.7 s each"


def test_without_a_display_nothing_is_shown(capsys):
    with step("stage"), progress_task("points") as tick:
        tick(1, 2)
        assert list(track("items", "abc", 3)) == ["a", "b", "c"]
        note("a line")
    assert capsys.readouterr() == ("", "")


def test_tasks_are_nested_and_what_is_left_open_ends_with_the_outer():
    display = progress.Display(Progress(auto_refresh=False), print)
    token = progress._display.set(display)
    try:
        with progress_task("stage"):
            abandoned = track("points", range(9), 9)
            assert [next(abandoned), next(abandoned)] == [0, 1]
            assert [(task.description, task.completed, task.total) for task in display.progress.tasks] == [
                ("stage", 0, None), ("points", 1, 9)
            ]  # fmt: skip
        assert display.progress.tasks == []
        abandoned.close()
    finally:
        progress._display.reset(token)


def test_jobs_of_other_processes_are_shown_side_by_side_by_the_task_that_each_ticked_last():
    display = progress.Display(Progress(auto_refresh=False), print)
    token = progress._display.set(display)

    def shown_tasks():
        return [(task.description, task.completed, task.total) for task in display.progress.tasks]

    try:
        with progress_task("models"):
            useful, harmful = progress.JobTask("useful"), progress.JobTask("harmful")
            useful.tick("rows", 5, 5)
            harmful.tick("steps", 1, 9)
            useful.tick("steps", 2, 9)
            useful.tick("steps", 3, 9)
            assert shown_tasks() == [("models", 0, None), ("harmful: steps", 1, 9), ("useful: steps", 3, 9)]
            harmful.close()
            harmful.close()
            assert shown_tasks() == [("models", 0, None), ("useful: steps", 3, 9)]
        assert shown_tasks() == []
        useful.close()
    finally:
        progress._display.reset(token)


def test_a_process_without_a_display_tells_of_the_task_that_is_ticked_but_not_too_often(monkeypatch):
    told, now = [], [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    relay = progress.Relay(lambda *ticked: told.append(ticked), told.append)
    token = progress._display.set(relay)
    try:
        with progress_task("points") as points:
            with progress_task("prompts") as prompts:
                prompts(1, 8)
                prompts(2, 8)
                now[0] += 1
                prompts(3, 8)
            now[0] += 1
            points(1, 2)
            note("a line")
            now[0] += 1
        points(2, 2)
    finally:
        progress._display.reset(token)
    assert told == [("prompts", 1, 8), ("prompts", 3, 8), ("points", 1, 2), "a line"]


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
    output = b""
    while True:
        try:
            output += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait() == 0
    return output.decode()


def test_on_a_terminal_tasks_are_bars_that_go_and_lines_that_stay():
    code = "import time; from safespan import progress; progress._BRIEF = 0\n"
    code += "with progress.shown(), progress.step('stage'):\n for i in progress.track('points', range(4), 4): "
    code += "time.sleep(0.3)"
    output = on_a_terminal(code, TERM="xterm", COLUMNS="100")
    assert re.search("stage.*\n.*points.*[23]/4", output)
    assert "\x1b[2K" in output
    assert re.search(r"stage: 1\.\d s\r\n", output)
    assert on_a_terminal(code, TERM="dumb").count("\n") == 1
