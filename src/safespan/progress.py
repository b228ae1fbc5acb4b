"""Progress of long work: the work counts, and a display around it shows what is counted.

Without a display, counting costs nothing and shows nothing. Tasks are nested: stage, point, prompts.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from rich.progress import Progress, Task, TaskID

Item = TypeVar("Item")

Tick = Callable[[int, int], None]
"""Called with (done, total) as work goes on."""

HEARTBEAT = 30.0
"""Seconds between two lines on a stream that is no terminal."""

_BRIEF = 0.7
"""Seconds that a task has to last before it is shown: shorter ones would flicker."""

_PAUSE = 0.2
"""Seconds between two ticks of another process."""


class Display:
    """The tasks that are open, outermost first, and where finished work gets its line.

    Args:
        progress: rich's account of the tasks: counts, rates, time left.
        print_line: writes a line that stays.
    """

    def __init__(self, progress: "Progress", print_line: Callable[[str], None]) -> None:
        self.progress, self.print_line = progress, print_line

    def open(self, name: str) -> "TaskID":
        """A task inside those that are open."""
        return self.progress.add_task(name, total=None)

    def tick(self, task: "TaskID", done: int, total: int) -> None:
        """So much is done. What is done at the first tick was done before, and tells nothing about the rate."""
        if task in self.progress.task_ids:
            self.progress.update(task, completed=done, total=total or None)

    def close(self, task: "TaskID") -> None:
        """Close a task, and those inside it that were left open."""
        for other in [other for other in self.progress.task_ids if other >= task]:
            self.progress.remove_task(other)


class Relay(Display):
    """The display of a process that has none of its own: what is counted and noted is told to another process.

    Args:
        tick: told (name of the task, done, total), now and then.
        print_line: told a line that stays.
    """

    def __init__(self, tick: Callable[[str, int, int], None], print_line: Callable[[str], None]) -> None:
        self.print_line, self._tell = print_line, tick
        self._names: list[str] = []
        self._told = 0.0

    def open(self, name: str) -> "TaskID":
        """A task inside those that are open."""
        self._names.append(name)
        return cast("TaskID", len(self._names) - 1)

    def tick(self, task: "TaskID", done: int, total: int) -> None:
        """Tell how much is done, unless that was told just now."""
        now = time.monotonic()
        if task < len(self._names) and now - self._told >= _PAUSE:
            self._told = now
            self._tell(self._names[task], done, total)

    def close(self, task: "TaskID") -> None:
        """Close a task, and those inside it that were left open."""
        del self._names[task:]


_display: ContextVar[Display | None] = ContextVar("display", default=None)


@contextmanager
def progress_task(name: str) -> Iterator[Tick]:
    """Count one task with what is yielded; inside a display it is shown until it ends."""
    display = _display.get()
    if display is None:
        yield lambda done, total: None
        return
    task = display.open(name)
    try:
        yield lambda done, total: display.tick(task, done, total)
    finally:
        display.close(task)


class JobTask:
    """What the display shows of a job that another process does: the task that it ticked last.

    Args:
        job: its name.
    """

    def __init__(self, job: str = "") -> None:
        self._job, self._display = job, _display.get()
        self._name, self._task = "", cast("TaskID", -1)

    def tick(self, name: str, done: int, total: int) -> None:
        """So much of one task of the job is done."""
        if self._display is None:
            return
        if name != self._name:
            self.close()
            self._name, self._task = name, self._display.open(f"{self._job}: {name}")
        self._display.tick(self._task, done, total)

    def close(self) -> None:
        """Show nothing of it; tasks of other jobs stay."""
        if self._display is not None and self._task in self._display.progress.task_ids:
            self._display.progress.remove_task(self._task)


def track(name: str, items: Iterable[Item], total: int) -> Iterator[Item]:
    """The same items, counted as they are done with."""
    with progress_task(name) as tick:
        tick(0, total)
        for number, item in enumerate(items, 1):
            yield item
            tick(number, total)


@contextmanager
def step(name: str, beside: str = "") -> Iterator[None]:
    """A stage of a command: a task, and a line with its seconds when it is finished.

    Args:
        name: of the stage.
        beside: what is shown behind the name as long as it goes on.
    """
    start = time.monotonic()
    with progress_task(f"{name}{beside}"):
        yield
    note(f"{name}: {time.monotonic() - start:.1f} s")


def note(line: str) -> None:
    """A line about what is finished, on the display."""
    if display := _display.get():
        display.print_line(line)


def is_main_process() -> bool:
    """Whether this process is the one that talks to the user: of those that `accelerate launch` starts, the first."""
    return os.environ.get("RANK", "0") == "0"


def show_by(display: Display) -> None:
    """Show by this display all that is counted from now on."""
    _display.set(display)


@contextmanager
def shown() -> Iterator[None]:
    """Show on standard error what is counted inside: as bars on a terminal, elsewhere as a line now and then."""
    if not is_main_process():
        yield
        return
    terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    with _bars() if terminal else _lines() as display:
        token = _display.set(display)
        try:
            yield
        finally:
            _display.reset(token)


def figures(task: "Task") -> tuple[str, str, str]:
    """What is done, how fast, and what is left, as text; empty where it is not known."""
    count = f"{task.completed:.0f}/{task.total:.0f}" if task.total else ""
    rate, left = task.speed or 0.0, task.time_remaining
    speed = f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each" if rate else ""
    return count, speed, f"{_clock(left)} left" if rate and left is not None else ""


@contextmanager
def _bars() -> Iterator[Display]:
    from rich.console import Console, RenderableType
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    from rich.text import Text

    class Figures(ProgressColumn):
        def render(self, task: "Task") -> Text:
            count, speed, left = figures(task)
            return Text("  ".join(part for part in (count, speed, left or _clock(task.elapsed or 0)) if part))

    class Bars(Progress):
        def get_renderables(self) -> Iterable[RenderableType]:
            lasting = [task for task in self.tasks if (task.elapsed or 0) > _BRIEF]
            yield self.make_tasks_table(lasting)

    console = Console(stderr=True)
    columns = TextColumn("{task.description}", markup=False), BarColumn(30), Figures()
    with Bars(*columns, console=console, transient=True) as progress:
        yield Display(progress, lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))


@contextmanager
def _lines() -> Iterator[Display]:
    from rich.progress import Progress

    last = time.monotonic()

    def print_line(line: str) -> None:
        nonlocal last
        last = time.monotonic()
        print(line, file=sys.stderr, flush=True)

    def beat() -> None:
        while not ended.wait(max(0.0, last + HEARTBEAT - time.monotonic())):
            if time.monotonic() - last >= HEARTBEAT:
                print_line(_line(progress.tasks) or "working")

    progress, ended = Progress(auto_refresh=False), threading.Event()  # it is never started, so it draws nothing
    heart = threading.Thread(target=beat, daemon=True)
    heart.start()
    try:
        yield Display(progress, print_line)
    finally:
        ended.set()
        heart.join()


def _line(tasks: "list[Task]") -> str:
    parts = [
        " ".join(part for part in (task.description, count, speed and f"({speed})", left) if part)
        for task in tasks
        for count, speed, left in [figures(task)]
    ]
    return f"… {'; '.join(parts)}; {_clock(tasks[0].elapsed or 0)} so far" if parts else ""


def _clock(seconds: float) -> str:
    """Seconds as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
