"""What long commands print: progress on standard error, what they found on standard output."""

import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import TypeAdapter

from safespan.cli.loading import loading_shown
from safespan.progress import shown

if TYPE_CHECKING:
    from rich.table import Table

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="print only errors and the paths of the results")]
Json = Annotated[bool, typer.Option("--json", help="print the results as one JSON object, and nothing else")]


@dataclass(frozen=True)
class CommandOutput:
    """The output of a command.

    Attributes:
        values: for `--json`.
        lines: text and tables for people.
        written: paths of the results, for `--quiet`.
        code: the exit code; 1: what was asked about is not as it should be.
    """

    values: Mapping[str, object]
    lines: Sequence["str | Table"]
    written: Sequence[Path]
    code: int = 0


@contextmanager
def progress(quiet: bool) -> Iterator[None]:
    """Show progress on standard error; if quiet, neither progress nor warnings."""
    with warnings.catch_warnings(), nullcontext() if quiet else shown(), loading_shown():
        # FutureWarnings of libraries are of no use to users.
        warnings.simplefilter("ignore", Warning if quiet else FutureWarning)
        logging.disable(logging.WARNING if quiet else logging.NOTSET)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def emit(output: CommandOutput, quiet: bool, as_json: bool) -> None:
    """Print the output of a command: as lines, as one JSON object, or only the paths of the results."""
    if as_json:  # NaN and Inf, which JSON does not have, are null
        typer.echo(TypeAdapter(object).dump_json(output.values, indent=2, fallback=str).decode())
    elif quiet:
        for path in output.written:
            typer.echo(path)
    else:
        for line in output.lines:
            _print(line)


def outcome_lines(outcomes: Mapping[str, object]) -> list[str]:
    """One line per outcome."""
    return [
        f"{name:<22}{value:.4g}" if isinstance(value, float) else f"{name:<22}{value}"
        for name, value in outcomes.items()
    ]


def _print(line: "str | Table") -> None:
    if isinstance(line, str):
        typer.echo(line)
        return
    from rich.console import Console

    # A file has no width; a terminal folds cells that are too wide for it.
    Console(width=None if sys.stdout.isatty() else 240, force_terminal=sys.stdout.isatty()).print(line)
    typer.echo()
