"""What long commands print: progress on standard error, what they found on standard output."""

import json
import logging
import math
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="say nothing but errors, and where the results are")]
Json = Annotated[bool, typer.Option("--json", help="print the results as one JSON object, and nothing else")]


@dataclass(frozen=True)
class CommandOutput:
    """What a command found.

    Attributes:
        values: for programs.
        lines: the same for people; tables too.
        written: where it lies.
    """

    values: Mapping[str, Any]
    lines: Sequence["str | Table"]
    written: Sequence[Path]


@contextmanager
def progress(quiet: bool) -> Iterator[None]:
    """Show on standard error how far the work inside is; if quiet, neither that nor warnings."""
    from safespan.progress import shown

    with warnings.catch_warnings():
        # What libraries will change one day is nothing to whoever runs a command.
        warnings.simplefilter("ignore", Warning if quiet else FutureWarning)
        if not quiet:
            with shown():
                yield
            return
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def emit(found: CommandOutput, quiet: bool, as_json: bool) -> None:
    """Print what was found: for people, as one JSON object, or only where it lies."""
    if as_json:
        typer.echo(json.dumps(_plain(found.values), indent=2, ensure_ascii=False, default=str))
    elif quiet:
        for path in found.written:
            typer.echo(path)
    else:
        for line in found.lines:
            _say(line)


def outcome_lines(outcomes: Mapping[str, Any]) -> list[str]:
    """Outcomes, one a line."""
    return [
        f"{name:<22}{value:.4g}" if isinstance(value, float) else f"{name:<22}{value}"
        for name, value in outcomes.items()
    ]


def _say(line: "str | Table") -> None:
    if isinstance(line, str):
        typer.echo(line)
        return
    from rich.console import Console

    # A file has no width; a terminal folds cells that are too wide for it.
    Console(width=None if sys.stdout.isatty() else 240, force_terminal=sys.stdout.isatty()).print(line)
    typer.echo()


def _plain(value: Any) -> Any:
    """The same with null for NaN, which JSON does not have."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
