"""Readers of data files: .txt, .json, .jsonl, .csv, .tsv and .parquet."""

import csv
import json
import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from safespan.errors import DataError, first_line, reason
from safespan.settings.data import FILES

Row = dict[str, Any]


def read_file(path: Path) -> list[Row]:
    """Read all rows of a file, in order.

    A quoted text in a .csv file may hold commas, quotes and line breaks; its fields may be separated by semicolons or
    tabs, and spaces around the names in its header do not count. A line of a .txt file is the field `prompt` of a row.
    A .json file holds a list of objects, or an object with one such list. Blank lines are skipped.

    Raises:
        DataError: the file is missing, empty or malformed, or has an unknown suffix.
    """
    readers = {".txt": _txt, ".json": _json, ".jsonl": _jsonl, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet}
    kind = path.suffix.lower()
    if kind not in readers:
        raise DataError(f"{path}: unknown kind of data file; give {FILES}")
    if not os.path.isfile(path):  # False for a name that no file can have, too
        raise DataError(f"{path}: no such file; give {FILES}")
    try:
        rows = readers[kind](path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        hint = "; a quote that is opened must be closed, and doubled inside" if isinstance(error, csv.Error) else ""
        raise DataError(f"{path}: cannot be read as a {kind} file: {reason(error)}{hint}") from error
    if not rows:
        raise DataError(f"{path}: holds no rows; give {FILES}")
    return rows


def _txt(path: Path) -> list[Row]:
    with path.open(encoding="utf-8-sig") as lines:
        return [{"prompt": line.strip()} for line in lines if line.strip()]


def _parsed(text: str) -> Any:
    """Parse JSON. An unpaired surrogate, which cannot be encoded in UTF-8, is a ValueError."""
    value = json.loads(text)
    if "\\ud" in text.lower():
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _json(path: Path) -> list[Row]:
    text = path.read_text(encoding="utf-8-sig")
    try:
        value = _parsed(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error})") from error
    if isinstance(value, dict):
        lists = [inner for inner in value.values() if isinstance(inner, list)]
        value = lists[0] if len(lists) == 1 else None
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise DataError(f"{path}: expected a list of JSON objects, or one object that holds one such list")
    return value


def _jsonl(path: Path) -> list[Row]:
    rows = []
    # Iterating a file splits at line feeds only; str.splitlines would also cut inside a string holding U+2028.
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = _parsed(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}: line {number} is not JSON ({error})") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}: line {number} is not a JSON object with named fields")
            rows.append(row)
    return rows


def _csv(path: Path) -> list[Row]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        header = lines.readline()
        separator = "\t" if path.suffix.lower() == ".tsv" else next((mark for mark in ",;\t" if mark in header), ",")
        reader = csv.DictReader(chain([header], lines), delimiter=separator, strict=True)
        named = reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        rows = list(reader)
    _check_named_once(path, named)
    for number, row in enumerate(rows, start=1):
        if None in row:  # where csv puts the values without a column
            raise DataError(f"{path}: row {number} has more fields than the header; quote a text that holds commas")
    return rows


def _parquet(path: Path) -> list[Row]:
    from pyarrow import ArrowException  # a slow import
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            table = file.read()
        _check_named_once(path, table.column_names)
        rows: list[Row] = table.to_pylist()
    except (ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: is not a Parquet file ({first_line(error)})") from error
    return rows


def _check_named_once(path: Path, names: Sequence[str]) -> None:
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{path}: has the column {twice[0]!r} more than once; name every column once")
