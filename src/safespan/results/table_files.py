"""Tables as CSV files: atomic writes, and validation on reading."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import polars as pl

from safespan.errors import DataError, first_line
from safespan.files.atomic import atomic_path
from safespan.results.columns import Column, Row, columns_of, required_of, schema_of

RowKind = TypeVar("RowKind", bound=Row)

_ROUNDING = 1e-6
"""Tolerance of the check of ranges: tables have six decimals."""


def frame_of(kind: type[Row], rows: Sequence[Row]) -> pl.DataFrame:
    """Rows as a table with the columns of their kind, NaN as an empty cell."""
    schema = schema_of(kind)
    columns = {name: [getattr(row, name) for row in rows] for name in schema}
    return pl.DataFrame(columns, schema=schema).with_columns(pl.selectors.float().fill_nan(None))


def write_table(path: Path, kind: type[Row], rows: Sequence[Row]) -> pl.DataFrame:
    """Write rows as CSV with the columns of their kind, NaN as an empty cell; return the table."""
    table = frame_of(kind, rows)
    significant = [name for name, column in columns_of(kind).items() if column.any_scale]
    with atomic_path(path) as part:
        table.with_columns(pl.col(significant).round_sig_figs(6).cast(pl.String)).write_csv(part, float_precision=6)
    return table


def rows_of(table: pl.DataFrame, kind: type[RowKind]) -> list[RowKind]:
    """The rows of a table as objects, NaN in place of an empty number."""
    numbers = table.with_columns(pl.selectors.float().fill_null(float("nan")))
    return [kind(**row) for row in numbers.rows(named=True)]


def header_of(path: Path) -> list[str]:
    """Names of a file's columns."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        return lines.readline().rstrip("\n").split(",")


def read_table(path: Path, kind: type[Row]) -> pl.DataFrame:
    """Read a table of `write_table`.

    Raises:
        DataError: the file is no such table, or a value is absent, not finite or outside its column's range.
    """
    if not path.exists():
        raise DataError(f"there is no table {path}: run the study again")
    try:
        schema, header = schema_of(kind), header_of(path)
        if header != list(schema):
            missing = (
                ", ".join(name for name in schema if name not in header)
                or "none, but the order differs or there are others"
            )
            raise DataError(
                f"{path} has other columns than this version writes (missing: {missing}; a new run keeps the trained "
                "models): run the study again"
            )
        table = pl.read_csv(path, schema=schema)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise DataError(f"{path} is no table of results ({first_line(error)}): run the study again") from None
    for name in dict.fromkeys([table.columns[0], *required_of(kind)]):
        if table[name].null_count():
            raise DataError(f"{path} has a row without {name}: run the study again")
    for name, column in columns_of(kind).items():
        if problem := _problem(table[name], column):
            raise DataError(f"{path} holds {problem} in column {name}: run the study again")
    return table


def _problem(values: pl.Series, column: Column) -> str:
    """What is wrong with the values of a column; empty if nothing is."""
    if values.dtype == pl.Float64 and not values.is_finite().all():  # a run writes an empty cell for NaN
        return "NaN or Inf"
    if column.low is not None and bool((values < column.low - _ROUNDING).any()):
        return f"{values.min()!r}, below {column.low:g},"
    if column.high is not None and bool((values > column.high + _ROUNDING).any()):
        return f"{values.max()!r}, above {column.high:g},"
    if column.values and not (known := values.is_in(column.values)).all():
        return f"{values.filter(~known)[0]!r}, which is none of {', '.join(column.values)},"
    return ""
