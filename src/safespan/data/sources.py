"""Rows and prompts from local files, Hugging Face data sets and the paper's presets."""

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safespan.data.row_files import Row, read_file
from safespan.errors import DataError
from safespan.settings.data import PromptSource, RowSource


@dataclass(frozen=True)
class Prompt:
    """A prompt, and its target answer where it is known."""

    prompt: str
    target: str | None = None


def read_rows(source: RowSource) -> list[Row]:
    """Read the rows of a source that pass its filters, in order.

    Raises:
        DataError: the source cannot be read, a filter names a field that is not there, or there are too few rows.
    """
    rows = read_file(Path(source.file)) if source.file is not None else _dataset(source)
    kept: Iterator[Row] = (row for number, row in enumerate(rows, start=1) if _passes(source, row, number))
    if source.shuffle is not None:
        kept = _shuffled(kept, source.shuffle)
    chosen = [row for _, row in zip(range(source.rows or len(rows)), kept, strict=False)]
    if not chosen:
        raise DataError(f"{source.name}: none of {len(rows)} rows passes the filters; change where, any_of or none_of")
    if source.rows is not None and len(chosen) < source.rows:
        raise DataError(f"{source.name}: {source.rows} rows asked for, {len(chosen)} there; lower `rows` or add data")
    return chosen


def read_prompts(source: PromptSource) -> list[Prompt]:
    """Read the prompts of a source, and their targets.

    Raises:
        DataError: as `read_rows`, or a row has no text in a field that the source names.
    """
    rows = read_rows(source)
    check_texts(source, rows, source.prompt_field, *([source.target_field] if source.target_field else []))
    return [Prompt(row[source.prompt_field], row.get(source.target_field or "target") or None) for row in rows]


def check_texts(source: RowSource, rows: Iterable[Row], *fields: str, blank: bool = False) -> None:
    """Check that every row has text in each of the fields; blank text is an error unless `blank`.

    Raises:
        DataError: names the first row and field without text.
    """
    for number, row in enumerate(rows, start=1):
        for field in fields:
            if not isinstance(row.get(field), str) or not (blank or row[field].strip()):
                names = ", ".join(map(str, row)) or "none"
                raise DataError(
                    f"{source.name}: row {number} has no text in the field '{field}' (fields there: {names}); "
                    "name the right field"
                )


def rows_hash(rows: Iterable[Mapping[str, object]]) -> str:
    """SHA-256 of rows in their order, as one JSON object per line with sorted keys."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False, default=str).encode() + b"\n")
    return digest.hexdigest()


def _dataset(source: RowSource) -> Any:
    import datasets

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(source.dataset, source.subset, split=source.split, revision=source.revision)
    except (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{source.name}: {_advice(source, error)}") from error


def _advice(source: RowSource, error: Exception) -> str:
    """Why a data set cannot be loaded, and what to do next."""
    reason = " ".join(str(error).split())
    if "gated" in reason:
        page = f"https://huggingface.co/datasets/{source.dataset}"
        return f"this data set is gated; accept its terms at {page} and set HF_TOKEN, or give a local copy as `file`"
    if isinstance(error, ConnectionError):
        return "not in the local cache, and the hub cannot be reached; go online once, or give a local copy as `file`"
    if "split" in reason or "BuilderConfig" in reason or "Config name" in reason:
        return f"no such split or subset ({reason[:300]})"
    return f"cannot be loaded as a data set ({reason[:300]}); give a hub id such as org/name, a folder, or a `file`"


def _shuffled(rows: Iterable[Row], seed: int) -> Iterator[Row]:
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    return iter(shuffled)


def _passes(source: RowSource, row: Row, number: int) -> bool:
    def value(field: str) -> object:
        inner: Any = row
        for name in [field] if field in row else field.split("."):
            if not isinstance(inner, dict) or name not in inner:
                names = ", ".join(map(str, inner)) if isinstance(inner, dict) else "none"
                raise DataError(
                    f"{source.name}: row {number} has no field '{field}' to filter by (fields there: {names})"
                )
            inner = inner[name]
        return inner

    return (
        all(_same(value(field), wanted) for field, wanted in source.where.items())
        and (not source.any_of or any([_same(value(field), True) for field in source.any_of]))
        and not any([_same(value(field), True) for field in source.none_of])
    )


def _same(value: object, wanted: object) -> bool:
    """Whether a field has the wanted value; numbers and booleans of a .csv file are text."""
    return value == wanted or (isinstance(value, str) and value.strip().lower() == str(wanted).lower())
