"""The command line as it is, in a fork of this process, which has imported everything."""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Ended:
    """How a command ended: its exit code (negative: by a signal), how long it took, its standard error."""

    code: int
    seconds: float
    stderr: str


def run(words: list[str], out: Path, disturb: Callable[[int], None] | None = None) -> Ended:
    """`safespan run WORDS --out OUT` in a fork; `disturb` is called with its process number."""
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as stderr:
        child = os.fork()
        if child == 0:
            _be_the_command(["safespan", "run", *words, "--out", str(out), "--quiet"], stderr.fileno())
        if disturb:
            disturb(child)
        status = os.waitpid(child, 0)[1]
        stderr.seek(0)
        return Ended(os.waitstatus_to_exitcode(status), time.monotonic() - start, stderr.read())


def _be_the_command(words: list[str], stderr: int) -> None:
    code = 1
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for number, stream in ((null, 0), (null, 1), (stderr, 2)):
            os.dup2(number, stream)
        sys.stdin, sys.stdout, sys.stderr = (open(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w")))  # noqa: SIM115
        sys.argv = words
        from safespan.cli import main

        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        if ray := sys.modules.get("ray"):  # at exit it would do so itself
            ray.shutdown()
        sys.stderr.flush()
        os._exit(code)
