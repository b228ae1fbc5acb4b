"""Reading rows and prompts from the files a user brings: .txt, .jsonl and .csv."""

import csv
import json
from pathlib import Path
from typing import Any

from safespan.errors import DataError

_READERS = "a .txt (a prompt a line), .jsonl or .csv file"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a prompt file, in order.

    A .csv file goes through a CSV reader, so a prompt may hold commas, quotes and line breaks. A line of a .txt
    file is the field `prompt` of a row. Blank lines are skipped.

    Raises:
        DataError: the file is missing, empty, not readable as its suffix says, or has another suffix.
    """
    readers = {".txt": _txt_rows, ".jsonl": _jsonl_rows, ".csv": _csv_rows}
    if path.suffix not in readers:
        raise DataError(f"{path}: unknown kind of prompt file; give {_READERS}")
    if not path.is_file():
        raise DataError(f"{path}: no such file; give {_READERS}")
    try:
        rows = readers[path.suffix](path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a UTF-8 {path.suffix} file ({error})") from error
    if not rows:
        raise DataError(f"{path}: holds no prompts; give {_READERS}")
    return rows


def read_prompts(path: Path, field: str = "prompt") -> list[str]:
    """Read one text field of every row.

    Raises:
        DataError: as `read_rows`, or a row has no text in this field.
    """
    rows = read_rows(path)
    for number, row in enumerate(rows, start=1):
        value = row.get(field)
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{path}: row {number} has no text in the field '{field}'; its fields are {list(row)}")
    return [row[field] for row in rows]


def _txt_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as lines:
        return [{"prompt": line.strip()} for line in lines if line.strip()]


def _jsonl_rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    # Iterating a file splits at line feeds only; str.splitlines would also cut inside a string holding U+2028.
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}: line {number} is not JSON ({error})") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}: line {number} is not a JSON object with named fields")
            rows.append(row)
    return rows


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.DictReader(lines, strict=True))
    for number, row in enumerate(rows, start=1):
        if None in row:  # where csv puts what the header has no name for
            raise DataError(f"{path}: row {number} has more fields than the header; quote a text that holds commas")
    return rows
