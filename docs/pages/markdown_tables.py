"""What the pages made from a run share: Markdown tables, and how their cells are written."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safespan.files.atomic import write_text


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def put(page: Path, name: str, script: str, made: str) -> None:
    """Replace the part of a page between the two comments that name it."""
    start, end = f"<!-- {name}: made by docs/pages/{script} -->\n", f"<!-- end of {name} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(start)
    if not found:
        sys.exit(f"{page} has no line {start.strip()}")
    write_text(page, f"{before}{start}\n{made}\n{end}{rest.partition(end)[2]}")


def percent(value: float | None) -> str:
    """A share in per cent, or a dash."""
    return "–" if value is None else f"{100 * value:.0f}"


def verdict_words(row: Mapping[str, Any]) -> str:
    """The verdict of a row of `verdicts` or `estimates`, with its direction if it has one."""
    return f"{row['verdict']}, {row['direction']}" if row["direction"] else row["verdict"]


def with_interval(row: Mapping[str, Any]) -> str:
    """The estimate of a row of `estimates` with its interval; a dash where it was not measurable."""
    if row["estimate"] is None:
        return "–"
    return f"{_signed(row['estimate'])} [{_signed(row['low'])}, {_signed(row['high'])}]"


def _signed(value: float) -> str:
    """With its sign and two digits, and no minus zero."""
    return f"{round(value, 2) + 0.0:+.2f}"
