"""The command line: parse, call one function, print. Slow imports are inside the commands."""

import os
import sys
import traceback
from types import TracebackType

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


def main() -> None:
    """Entry point. Invalid input or a full disk gives one line on standard error and exit code 2; a signal 128 + n."""
    sys.excepthook = _without_secrets
    # Read by torch and by NumPy's BLAS when they are imported: otherwise they start a thread for each core of the
    # machine, whatever the container allows.
    os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))
    try:
        with interruptible(), explain_disk_full("a temporary or cached file"):
            app()
    except SafespanError as error:
        typer.echo(f"safespan: {redacted(' '.join(str(error).split()))}", err=True)
        sys.exit(2)
