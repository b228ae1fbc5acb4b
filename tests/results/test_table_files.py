import math
from dataclasses import dataclass, replace
from typing import Annotated

import polars as pl
import pytest

from safespan.errors import DataError
from safespan.results import (
    POOLED_TABLES,
    TABLES,
    Column,
    Row,
    columns_of,
    frame_of,
    header_of,
    read_table,
    schema_of,
    write_table,
)
from safespan.results.tables import ModelRow
from table_rows import row_of

EVERY = TABLES | POOLED_TABLES


@dataclass(frozen=True)
class Cells(Row):
    text: Annotated[str, Column("a text")]
    number: Annotated[float, Column("a number of few digits")] = math.nan
    size: Annotated[float, Column("a number of any scale", any_scale=True)] = math.nan
    count: Annotated[int | None, Column("a count, where there is one")] = None


def whole_row(kind, at: float):
    """A row with a value in every cell: the numbers lie `at` that share of the way through their ranges."""

    def value(name, column):
        low = column.low or 0
        high = low + 1 if column.high is None else column.high
        number = low + at * (high - low)
        text = column.values[0] if column.values else f"{name}, {at:g}"
        types = {pl.Float64: number, pl.Int64: math.ceil(number), pl.String: text, pl.Boolean: at > 0.5}
        return types[schema_of(kind)[name]]

    return kind(**{name: value(name, column) for name, column in columns_of(kind).items()})


def beyond(column, end):
    """A value outside a range."""
    return column.low - 1 if end == "low" else column.high + 1


def refusal(path, kind) -> str:
    with pytest.raises(DataError) as raised:
        read_table(path, kind)
    assert str(raised.value).startswith(f"{path} ")
    assert str(raised.value).endswith(": run the study again")
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("table", EVERY)
def test_every_table_comes_back_as_it_was_written(table, tmp_path):
    kind, path = EVERY[table], tmp_path / "table.csv"
    rows = [whole_row(kind, at) for at in (0, 0.25, 0.75, 1)]
    known = {name: column.values[0] for name, column in columns_of(kind).items() if column.values}
    written = write_table(path, kind, [*rows, row_of(kind, **known, **{next(iter(schema_of(kind))): "unmeasured"})])
    assert path.read_text().splitlines()[0] == ",".join(schema_of(kind))
    again = read_table(path, kind)
    assert again.schema == schema_of(kind)
    assert again.equals(written)
    assert again.rows(named=True)[:-1] == [vars(row) for row in rows]


@pytest.mark.parametrize("table", EVERY)
def test_a_table_without_rows_has_its_columns(table, tmp_path):
    kind = EVERY[table]
    write_table(tmp_path / "table.csv", kind, [])
    assert read_table(tmp_path / "table.csv", kind).equals(frame_of(kind, []))
    assert frame_of(kind, []).columns == list(schema_of(kind))


def test_texts_keep_every_letter_and_nan_is_an_empty_cell(tmp_path):
    path = tmp_path / "table.csv"
    rows = [Cells("x, y"), Cells('"z"\nü', number=1 / 3, count=7)]
    write_table(path, Cells, rows)
    assert path.read_text() == 'text,number,size,count\n"x, y",,,\n"""z""\nü",0.333333,,7\n'
    assert read_table(path, Cells).rows() == [("x, y", None, None, None), ('"z"\nü', 0.333333, None, 7)]


def test_numbers_of_any_scale_keep_six_digits_and_others_six_decimals(tmp_path):
    values = (1.23456789e-9, 12.3456789, 123456789.0, math.nan)
    write_table(tmp_path / "table.csv", Cells, [Cells("a", number=value, size=value) for value in values])
    table = read_table(tmp_path / "table.csv", Cells)
    assert table["size"].to_list() == [1.23457e-9, 12.3457, 123457000.0, None]
    assert table["number"].to_list() == [0, 12.345679, 123456789.0, None]


@pytest.mark.parametrize("table", EVERY)
@pytest.mark.parametrize("end", ["low", "high"])
def test_a_value_outside_its_range_is_refused(table, end, tmp_path):
    kind, path = EVERY[table], tmp_path / "table.csv"
    row = whole_row(kind, 0.5)
    bounded = {name: column for name, column in columns_of(kind).items() if getattr(column, end) is not None}
    for name, column in bounded.items():
        value = beyond(column, end)
        write_table(path, kind, [row, replace(row, **{name: value})])
        words = f"{'below' if end == 'low' else 'above'} {getattr(column, end):g}, in column {name}:"
        assert f"holds {value}, {words}" in refusal(path, kind).replace(f"{value}.0,", f"{value},")


def test_a_value_that_was_rounded_beyond_its_range_is_taken(tmp_path):
    write_table(tmp_path / "table.csv", ModelRow, [row_of(ModelRow, model="a", utility=1 + 9e-7, harmfulness=1 - 9e-7)])
    assert read_table(tmp_path / "table.csv", ModelRow)["model"].to_list() == ["a"]


@pytest.mark.parametrize("cell", ["NaN", "nan", "inf", "-inf", "Infinity"])
def test_nan_and_inf_are_refused(cell, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(f"text,number,size,count\na,{cell},,\n")
    assert "holds NaN or Inf in column number" in refusal(path, Cells)


def test_a_row_without_its_first_cell_is_refused(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("text,number,size,count\na,1,1,1\n,1,1,1\n")
    assert "has a row without text" in refusal(path, Cells)


@pytest.mark.parametrize(
    ("header", "missing"),
    [
        ("", "text, number, size, count"),
        ("text", "number, size, count"),
        ("text,number,size", "count"),
        ("text,number,size,count,\x1b[31m", "none, but the order differs or there are others"),
        ("number,text,size,count", "none, but the order differs or there are others"),
        ("\x00", "text, number, size, count"),
    ],
)
def test_other_columns_are_refused(header, missing, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(f"{header}\n")
    assert header_of(path) != list(schema_of(Cells))
    assert f"has other columns than this version writes (missing: {missing};" in refusal(path, Cells)


@pytest.mark.parametrize(
    "line", [b"a,many,1,1", b"a,1,1,1.5", b"a,1,1,9999999999999999999999", b"a,1,1,1,1", b"\xff\xfe,1,1,1"]
)
def test_what_is_no_table_is_refused(line, tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"text,number,size,count\n" + line + b"\n")
    assert "is no table of results (" in refusal(path, Cells)
