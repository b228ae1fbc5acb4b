"""The responses of the models, for the browser on the page."""

import json

from safespan.errors import DataError
from safespan.files.atomic import read_jsonl
from safespan.files.content import is_plain_name
from safespan.results.run_folder import RunFolder

COLUMNS = ("model", "kind", "prompt", "response", "target", "score", "refused", "reason", "judge")
_LONGEST = 2000
"""Letters of a prompt, response or reason that are shown."""
_BUDGET = 900_000
"""Letters of all rows together: what keeps a page under 3 MB beside its charts and their library."""


def responses(run: RunFolder, models: list[str]) -> tuple[list[list[object]], int]:
    """Rows of `COLUMNS` for the page, the first of every kind from every model, and how many there are in all.

    Raises:
        DataError: a file of generations that is not what a run writes.
    """
    kinds = [list(rows) for model in models for rows in _by_kind(run, model).values()]
    total = sum(map(len, kinds))
    return _fitting(kinds), total


def _by_kind(run: RunFolder, model: str) -> dict[str, list[list[object]]]:
    path = run.generations(model)
    if not is_plain_name(model) or not run.has(path):  # a table may name any file
        return {}
    kinds: dict[str, list[list[object]]] = {}
    try:
        for row in read_jsonl(path):
            cells = [model, *(_cell(row.get(name)) for name in COLUMNS[1:])]
            json.dumps(cells, ensure_ascii=False).encode()  # half a surrogate pair, which no page can hold, fails here
            kinds.setdefault(str(row["kind"]), []).append(cells)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise DataError(f"{path} is no file of generations ({problem!r}): run the study again") from None
    return kinds


def _cell(value: object) -> object:
    if isinstance(value, str) and len(value) > _LONGEST:
        return value[:_LONGEST] + " …"
    return value


def _fitting(kinds: list[list[list[object]]]) -> list[list[object]]:
    """Rows in turn from every list, so that each is represented, until the budget is used."""
    taken = [0] * len(kinds)
    left = _BUDGET
    for place, number in sorted((place, number) for number, rows in enumerate(kinds) for place in range(len(rows))):
        left -= sum(len(str(cell)) + 3 for cell in kinds[number][place])
        if left < 0:
            break
        taken[number] += 1
    return [row for rows, count in zip(kinds, taken, strict=True) for row in rows[:count]]
