"""Rows and prompts from local files, Hugging Face data sets and the paper's presets."""

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from safespan.data.conversations import COLUMNS, read_conversation
from safespan.data.hub import is_data_set, load_data_set
from safespan.data.row_files import Row, read_file
from safespan.errors import DataError
from safespan.settings.data import PromptSource, RowSource


@dataclass(frozen=True)
class Prompt:
    """A prompt, its target answer where it is known, and its file and row, for messages."""

    prompt: str
    target: str | None = None
    place: str = field(default="", compare=False)


def read_rows(source: RowSource) -> list[Row]:
    """Read the rows of a source that pass its filters, in order.

    Raises:
        DataError: the source cannot be read, a filter names a field that is not there, or there are too few rows.
    """
    return [row for _, row in numbered_rows(source)]


def numbered_rows(source: RowSource) -> list[tuple[int, Row]]:
    """The rows of `read_rows`, each with its number in the source, from 1."""
    rows = load_data_set(source) if is_data_set(source) else read_file(Path(str(source.file)))
    kept: Iterator[tuple[int, Row]] = (
        (number, row) for number, row in enumerate(rows, start=1) if _passes(source, row, number)
    )
    if source.shuffle is not None:
        kept = _shuffled(kept, source.shuffle)
    chosen = list(islice(kept, source.rows))
    if not chosen:
        raise DataError(f"{source.name}: none of {len(rows)} rows passes the filters; change where, any_of or none_of")
    if source.rows is not None and len(chosen) < source.rows:
        raise DataError(f"{source.name}: {source.rows} rows asked for, {len(chosen)} there; lower `rows` or add data")
    return chosen


def read_prompts(source: PromptSource) -> list[Prompt]:
    """Read the prompts of a source, and their targets.

    A conversation that ends with the assistant's turn has it as its target, unless the row has another.

    Raises:
        DataError: as `read_rows`, or a row has no text, or no conversation, in a field that the source names; a target
            is no text.
    """
    prompts = []
    for number, row in numbered_rows(source):
        prompt, answer = prompt_of(source, row, number)
        if source.target_field:
            check_text(source, row, number, source.target_field, "target_field")
        place = f"{source.name}: row {number}"
        prompts.append(Prompt(prompt, target_of(source, row, number) or answer or None, place))
    return prompts


def target_of(source: PromptSource, row: Row, number: int) -> str | None:
    """The target of a row; None where it has none, or white space.

    Raises:
        DataError: it is no text.
    """
    target = row.get(source.target_field or "target")
    if isinstance(target, str) and not target.strip():
        return None
    if not isinstance(target, str | None):
        raise DataError(
            f"{source.name}: row {number} has {str(target)[:40]} in the field 'target', expected text; write it as "
            "text, or rename the field if it is no answer"
        )
    return target


def prompt_of(source: RowSource, row: Row, number: int) -> tuple[str, str | None]:
    """The prompt of a row, and the answer that ends its conversation, if it is one and has one.

    Args:
        number: of the row in the source.

    Raises:
        DataError: the row has no text and no conversation where the source says.
    """
    field = source.prompt_field
    if field == RowSource.model_fields["prompt_field"].default and field not in row:
        field = next((column for column in COLUMNS if column in row), field)
    if field != source.prompt_field or isinstance(row.get(field), list):
        return read_conversation(row[field], f"{source.name}: row {number}, field '{field}'")
    check_text(source, row, number, field, "prompt_field")
    return row[field], None


def check_text(source: RowSource, row: Row, number: int, field: str, option: str = "", blank: bool = False) -> None:
    """Check that a row has text in a field; blank text is an error unless `blank`.

    Args:
        number: of the row in the source.
        option: of the source, that names the field; for the message.

    Raises:
        DataError: names the row, the field and the fields that there are.
    """
    if not isinstance(row.get(field), str) or not (blank or row[field].strip()):
        names = ", ".join(map(str, row)) or "none"
        by = option and f" by {option}"
        raise DataError(
            f"{source.name}: row {number} has no text in the field '{field}' (fields there: {names}); "
            f"name the right field{by}"
        )


def rows_hash(rows: Iterable[Mapping[str, object]]) -> str:
    """SHA-256 of rows in their order, as one JSON object per line with sorted keys."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False, default=str).encode() + b"\n")
    return digest.hexdigest()


def _shuffled(rows: Iterable[tuple[int, Row]], seed: int) -> Iterator[tuple[int, Row]]:
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
