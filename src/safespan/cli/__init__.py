"""The command line: parse, call one function, print. Heavy imports live inside the commands."""

import sys
import traceback
from types import TracebackType

import typer

from safespan.cli import analysis, evaluation, judging, report, study, training, verdict
from safespan.cli.app import app
from safespan.cli.interruption import interruptible
from safespan.errors import SafespanError
from safespan.files.disk import explain_disk_full
from safespan.settings.redaction import redacted


def _without_secrets(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback as Python does, but for keys and passwords that a library put into its message."""
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))


def main() -> None:
    """Entry point: bad input ends in one line on standard error and exit code 2, a signal in 128 and its number.

    A disk that is full anywhere is bad input too.
    """
    sys.excepthook = _without_secrets
    try:
        with interruptible(), explain_disk_full("a temporary or cached file"):
            app()
    except SafespanError as error:
        typer.echo(f"safespan: {redacted(' '.join(str(error).split()))}", err=True)
        sys.exit(2)
