"""The command line: parse, call one function, print. Slow imports are inside the commands."""

import os
import sys
import traceback
from types import TracebackType
from typing import Any, NoReturn

import typer

from safespan.cli import analysis, calibrate, doctor, export, gate, hypotheses, init, models, project, study
from safespan.cli.app import app
from safespan.cli.interruption import interruptible
from safespan.errors import SafespanError
from safespan.files.disk import explain_disk_full
from safespan.linalg.processor import usable_cores
from safespan.settings.redaction import redacted


def _without_secrets(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback without the keys and passwords that a message of a library may hold."""
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))


_UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""What Typer raises for words that it does not understand; it names only subclasses of it publicly."""


def main() -> None:
    """Entry point. Invalid input or a full disk gives one line on standard error and exit code 2; a signal 128 + n."""
    sys.excepthook = _without_secrets
    # Read by torch and by NumPy's BLAS when they are imported: otherwise they start a thread for each core of the
    # machine, whatever the container allows.
    os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))
    try:
        with interruptible(), explain_disk_full("a temporary or cached file"):
            ended = app(sys.argv[1:] or ["--help"], prog_name="safespan", standalone_mode=False)
    except SafespanError as error:
        _refuse(str(error))
    except _UsageError as error:
        told: Any = error
        command = f"{told.ctx.command_path} --help" if told.ctx else "--help"
        _refuse(f"{told.format_message()} (see {command})")
    sys.exit(ended if isinstance(ended, int) else 0)


def _refuse(reason: str) -> NoReturn:
    typer.echo(f"safespan: {redacted(' '.join(reason.split()))}", err=True)
    sys.exit(2)
