"""Handling of Ctrl-C and SIGTERM: clean-up, the end of child processes, and a line with the command to continue."""

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from safespan.progress import is_main_process

_GRACE = 5.0
"""Seconds that child processes have to end after SIGTERM."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGINT and SIGTERM during the work inside into an exit with 130 or 143; a second one exits at once."""
    received: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            os._exit(128 + number)
        # Not KeyboardInterrupt, which libraries catch.
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except BaseException:
        if not received:
            raise
        _end_children()
        if is_main_process():
            print(f"interrupted; continue with: {_command()}", file=sys.stderr, flush=True)
        raise SystemExit(128 + received[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _command() -> str:
    """The running command, as typed in a shell."""
    program, *words = sys.argv
    if "TORCHELASTIC_RUN_ID" in os.environ:
        start = ["accelerate", "launch", "…", "-m", "safespan"]  # its own options are not known here
    elif program.endswith("__main__.py"):
        start = [sys.executable, "-m", "safespan"]
    else:
        start = ["safespan" if program == shutil.which("safespan") else program]
    return shlex.join([*start, *words])


def _end_children() -> None:
    import psutil

    if ray := sys.modules.get("ray"):
        ray.shutdown()
    children = psutil.Process().children(recursive=True)
    for child in children:
        child.terminate()
    for child in psutil.wait_procs(children, _GRACE)[1]:
        child.kill()
