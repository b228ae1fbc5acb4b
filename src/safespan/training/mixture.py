"""Read training rows and mix them: p % as many contaminating rows as useful ones (METHODS §1)."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from safespan.errors import DataError
from safespan.training.recipe import DataSource, TrainingConfig


@dataclass(frozen=True)
class Example:
    """One thing to learn: what the user says and what the model should answer."""

    prompt: str
    response: str


def read_examples(source: DataSource) -> list[Example]:
    """Read the first `source.rows` rows of a JSON-lines file, or all of them."""
    path = Path(source.file)
    if not path.is_file():
        raise DataError(f"{path}: no such file; a .jsonl file of training rows was expected here")
    examples: list[Example] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if len(examples) == source.rows:
                break
            if line.strip():
                examples.append(_parse(line, f"{path}, line {number}", source))
    if not examples:
        raise DataError(f"{path}: the file has no rows; at least one was expected")
    if source.rows is not None and len(examples) < source.rows:
        raise DataError(f"{path}: {source.rows} rows asked for, {len(examples)} there; lower `rows` or add data")
    return examples


def mixture(config: TrainingConfig, seed: int) -> list[Example]:
    """Return what a run trains on: its data and, drawn at random, the contaminating rows, in random order."""
    examples = read_examples(config.data)
    rng = random.Random(seed)
    if config.contaminate_with is not None:
        pool = read_examples(config.contaminate_with)
        wanted = max(1, round(len(examples) * config.contamination_percent / 100))
        if wanted > len(pool):
            raise DataError(
                f"{config.contaminate_with.file}: {config.contamination_percent:g} % of {len(examples)} rows are "
                f"{wanted} contaminating rows, {len(pool)} there; lower contamination_percent or add data"
            )
        examples = examples + rng.sample(pool, wanted)
    rng.shuffle(examples)
    return examples


def _parse(line: str, where: str, source: DataSource) -> Example:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not a JSON object ({error.msg}); one object a line was expected") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: a JSON object was expected, this is a {type(row).__name__}")
    for field in (source.prompt_field, source.response_field):
        if not isinstance(row.get(field), str):
            there = ", ".join(map(str, row)) or "none"
            raise DataError(f"{where}: no text in field {field!r} (fields there: {there}); name the right field")
    return Example(row[source.prompt_field], row[source.response_field])
