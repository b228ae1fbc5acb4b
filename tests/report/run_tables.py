"""Tables of a run from plain rows."""

from collections.abc import Iterable, Mapping
from typing import Any

from safespan.results import TABLES, RunFolder, schema_of, write_table


def write_rows(run: RunFolder, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table of a run; columns that a row does not name are empty."""
    kind = TABLES[name]
    empty = dict.fromkeys(schema_of(kind))
    write_table(run.table(name), kind, [kind(**{**empty, **row}) for row in rows])
