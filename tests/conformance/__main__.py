"""Try every architecture: `python -m tests.conformance [--only KIND …] [--write]`."""

import argparse
import logging
import os
import re
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from conformance.architectures import KINDS, Triple, make
from conformance.checks import CHECKS
from safespan.errors import SafespanError
from safespan.files.atomic import write_text

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
START, END = "<!-- made by python -m tests.conformance --write -->", "<!-- end -->"


def cell(check: str, triple: Triple, folder: Path, verbose: bool = False) -> str:
    """What one check says: yes, or a share; `refused` with the reason; `wrong` and `fails` are faults."""
    folder.mkdir()
    try:
        return CHECKS[check](triple, folder) or "yes"
    except SafespanError as error:
        return f"refused: {str(error).replace(str(folder.parent), '…')}"
    except Exception as error:
        if verbose:
            traceback.print_exc()
        kind = "wrong" if isinstance(error, AssertionError) else "fails"
        return f"**{kind}**: {type(error).__name__} {' '.join(str(error).split())[:120]}"


def row(kind: str, checks: list[str], verbose: bool) -> list[str]:
    """The cells of one architecture."""
    with tempfile.TemporaryDirectory() as place:
        triple = make(kind, Path(place))
        return [cell(check, triple, Path(place) / check.replace(" ", "-"), verbose) for check in checks]


def table(checks: list[str], rows: dict[str, list[str]]) -> str:
    """The rows, with the reasons of refusals below them."""
    reasons = dict.fromkeys(one for cells in rows.values() for one in cells if one.startswith("refused"))
    numbers = {reason: f"refused [{number}]" for number, reason in enumerate(reasons, start=1)}
    lines = [f"| model type | {' | '.join(checks)} |", f"|---|{'---|' * len(checks)}"]
    lines += [f"| `{kind}` | {' | '.join(numbers.get(one, one) for one in cells)} |" for kind, cells in rows.items()]
    notes = [f"{number}. {reason.removeprefix('refused: ')}" for number, reason in enumerate(reasons, start=1)]
    return "\n".join([*lines, "", *notes])


def written_rows(page: str) -> dict[str, list[str]]:
    """The rows of a written table, reasons in their cells."""
    text = page.partition(START)[2].partition(END)[0]
    reasons = dict(re.findall(r"^(\d+)\. (.*)$", text, re.MULTILINE))
    rows = re.findall(r"^\| `(.*?)` \| (.*) \|$", text, re.MULTILINE)
    return {
        kind: [
            re.sub(r"^refused \[(\d+)\]$", lambda found: f"refused: {reasons[found[1]]}", one)
            for one in cells.split(" | ")
        ]
        for kind, cells in rows
    }


def main() -> None:
    """Read the options; print a row an architecture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=KINDS)
    parser.add_argument("--checks", nargs="*", default=list(CHECKS))
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    asked = parser.parse_args()
    if asked.write and asked.checks != list(CHECKS):
        parser.error("--write needs every check")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    rows = {}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SAFESPAN_CACHE"] = cache
        for kind in asked.only:
            rows[kind] = row(kind, asked.checks, asked.verbose)
            print(f"{kind}: {'; '.join(rows[kind])}", flush=True)
    if asked.write:
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(START)
        after = rest.partition(END)[2]
        kept = written_rows(page) | rows  # those that were not asked for stay as they are
        ordered = {kind: kept[kind] for kind in KINDS if kind in kept}
        write_text(PAGE, f"{before}{START}\n\n{table(list(CHECKS), ordered)}\n\n{END}{after}")


if __name__ == "__main__":
    main()
