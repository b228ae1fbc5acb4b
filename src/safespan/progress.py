"""Progress of long work: whoever works counts, whoever wants to see it opens a display around the work.

Without a display, counting costs nothing and says nothing. Levels lie in one another: stage, point, prompts.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import RenderableType

Item = TypeVar("Item")

Tick = Callable[[int, int], None]
"""Called with (done, total) as work goes on."""

HEARTBEAT = 30.0
"""Seconds between two lines on a stream that is no terminal."""

_BRIEF = 0.7
"""Seconds that a level has to last before it is shown: shorter ones would flicker."""


class Level:
    """One thing that is counted, since it began."""

    def __init__(self, name: str) -> None:
        """Begin now, with nothing known."""
        self.name, self.done, self.total = name, 0, 0
        self.began = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._last = self.began

    def tick(self, done: int, total: int) -> None:
        """So much is done. What is done at the first tick was done before, and says nothing of the rate."""
        self.done, self.total, self._last = done, total, time.monotonic()
        self._first = self._first or (self._last, done)

    @property
    def rate(self) -> float:
        """Items a second; 0 while it is not known."""
        if self._first is None or self.done <= self._first[1]:
            return 0.0
        return (self.done - self._first[1]) / max(self._last - self._first[0], 1e-9)

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take at this rate; None while it is not known."""
        if not self.rate:
            return None
        return max(0.0, (self.total - self.done) / self.rate - (time.monotonic() - self._last))

    def figures(self) -> tuple[str, str, str]:
        """What is done, how fast, and what is left, as text; empty where there is nothing to say."""
        count = f"{self.done}/{self.total}" if self.total else ""
        speed = f"{self.rate:.1f}/s" if self.rate >= 1 else f"{1 / self.rate:.1f} s each" if self.rate else ""
        return count, speed, "" if self.left is None else f"{clock(self.left)} left"


class Display:
    """The levels that are open, outermost first, and where finished work gets its line."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Begin with no level."""
        self.levels: list[Level] = []
        self.say = say

    def open(self, name: str) -> Level:
        """A level inside those that are open."""
        level = Level(name)
        self.levels.append(level)
        return level

    def close(self, level: Level) -> None:
        """Close a level, and those inside it that were left open."""
        if level in self.levels:
            del self.levels[self.levels.index(level) :]


_display: ContextVar[Display | None] = ContextVar("display", default=None)


@contextmanager
def progress_task(name: str) -> Iterator[Tick]:
    """Count one level of work with what is yielded; inside a display it is shown until it ends."""
    display = _display.get()
    if display is None:
        yield lambda done, total: None
        return
    level = display.open(name)
    try:
        yield level.tick
    finally:
        display.close(level)


def track(name: str, items: Iterable[Item], total: int) -> Iterator[Item]:
    """The same items, counted as they are done with."""
    with progress_task(name) as tick:
        tick(0, total)
        for number, item in enumerate(items, 1):
            yield item
            tick(number, total)


@contextmanager
def step(name: str) -> Iterator[None]:
    """A stage of a command: a level, and a line with its seconds when it is finished."""
    start = time.monotonic()
    with progress_task(name):
        yield
    note(f"{name}: {time.monotonic() - start:.1f} s")


def note(line: str) -> None:
    """A line about what is finished, on the display."""
    if display := _display.get():
        display.say(line)


def is_main_process() -> bool:
    """Whether this process is the one that talks to the user: of those that `accelerate launch` starts, the first."""
    return os.environ.get("RANK", "0") == "0"


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


def clock(seconds: float) -> str:
    """Seconds as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


@contextmanager
def _bars() -> Iterator[Display]:
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    display = Display(lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))
    with Live(console=console, transient=True, get_renderable=lambda: _table(display.levels)):
        yield display


def _table(levels: list[Level]) -> "RenderableType":
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    now = time.monotonic()
    lasting = [level for level in levels if now - level.began > _BRIEF]
    if not lasting:
        return Group()
    grid = Table.grid(padding=(0, 2))
    for depth, level in enumerate(lasting):
        bar = ProgressBar(total=level.total, completed=level.done, width=30) if level.total else ""
        count, speed, left = level.figures()
        grid.add_row(f"{'  ' * depth}{level.name}", bar, count, speed, left or clock(now - level.began))
    return grid


@contextmanager
def _lines() -> Iterator[Display]:
    said = time.monotonic()

    def say(line: str) -> None:
        nonlocal said
        said = time.monotonic()
        print(line, file=sys.stderr, flush=True)

    def beat() -> None:
        while not ended.wait(max(0.0, said + HEARTBEAT - time.monotonic())):
            if time.monotonic() - said >= HEARTBEAT:
                say(_line(display.levels) or "working")

    display, ended = Display(say), threading.Event()
    beating = threading.Thread(target=beat, daemon=True)
    beating.start()
    try:
        yield display
    finally:
        ended.set()
        beating.join()


def _line(levels: list[Level]) -> str:
    parts = [
        " ".join([level.name, *(figure for figure in (count, speed and f"({speed})", left) if figure)])
        for level in list(levels)
        for count, speed, left in [level.figures()]
    ]
    return f"… {'; '.join(parts)}; {clock(time.monotonic() - levels[0].began)} so far" if parts else ""
