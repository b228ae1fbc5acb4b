from dataclasses import dataclass, fields
from typing import Annotated, get_args, get_type_hints

import polars as pl
import pytest

from safespan.results import POOLED_TABLES, TABLES, Column, Row, columns_of, schema_of
from safespan.results.claim_tables import EstimateRow, UpdateRow
from safespan.results.tables import ModelRow, OverlapRow, ProjectionRow

EVERY = TABLES | POOLED_TABLES
KINDS = {float: pl.Float64, int: pl.Int64, str: pl.String, bool: pl.Boolean}


@pytest.mark.parametrize("table", EVERY)
def test_every_field_of_every_table_is_described_once(table):
    kind = EVERY[table]
    assert issubclass(kind, Row)
    assert kind.__dataclass_params__.frozen
    hints = get_type_hints(kind, include_extras=True)
    described = columns_of(kind)
    assert list(described) == [field.name for field in fields(kind)]
    for name, column in described.items():
        assert [mark for mark in hints[name].__metadata__ if isinstance(mark, Column)] == [column], name


@pytest.mark.parametrize("table", EVERY)
def test_descriptions_are_one_line_and_ranges_are_ranges(table):
    for name, column in columns_of(EVERY[table]).items():
        assert column.text, name
        assert not column.text.endswith("."), name
        assert "\n" not in column.text, name
        assert column.low is None or column.high is None or column.low < column.high, name
    assert "\n" not in (EVERY[table].__doc__ or "\n").partition("\n\n")[0]


@pytest.mark.parametrize("table", EVERY)
def test_numbers_alone_have_units_and_ranges(table):
    schema = schema_of(EVERY[table])
    for name, column in columns_of(EVERY[table]).items():
        if schema[name] in (pl.String, pl.Boolean):
            assert (column.unit, column.range, column.any_scale) == ("", "", False), name


@pytest.mark.parametrize("table", EVERY)
def test_a_columns_type_is_that_of_its_field(table):
    for name, hint in get_type_hints(EVERY[table]).items():
        [kind] = {*get_args(hint), hint} & set(KINDS)  # `int | None` is a column of numbers with empty cells
        assert schema_of(EVERY[table])[name] is KINDS[kind], name


@pytest.mark.parametrize(
    ("kind", "first", "last"),
    [
        (ModelRow, ["model", "utility", "utility_ci_low"], ["n_no_answer", "valid"]),
        (ProjectionRow, ["finetune", "subspace", "method", "fraction", "seed", "energy_kept"], ["valid"]),
        (OverlapRow, ["x", "y", "again", "group", "granularity", "layer", "module"], ["angle_median"]),
        (EstimateRow, ["hypothesis", "test", "construct", "outcome", "votes", "method", "statistic"], ["reason"]),
    ],
)  # fmt: skip
def test_what_a_row_is_of_comes_before_what_was_measured(kind, first, last):
    names = list(columns_of(kind))
    assert (names[: len(first)], names[-len(last) :]) == (first, last)


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        (ModelRow, "harmfulness", "[1, 5]"),
        (OverlapRow, "k_x", "≥ 0"),
        (OverlapRow, "again", ""),
        (EstimateRow, "estimate", "[-1, 1]"),
        (UpdateRow, "log_odds", ""),
    ],
)
def test_ranges_are_put_into_words(kind, name, words):
    assert columns_of(kind)[name].range == words


def test_a_range_with_an_upper_end_alone():
    assert Column("x", high=0.5).range == "≤ 0.5"


@dataclass(frozen=True)
class Undescribed(Row):
    name: str


@dataclass(frozen=True)
class DescribedTwice(Row):
    name: Annotated[str, Column("a name"), Column("another")]


@pytest.mark.parametrize("kind", [Undescribed, DescribedTwice])
def test_a_field_without_its_one_description_is_no_column(kind):
    with pytest.raises((AssertionError, ValueError)):
        columns_of(kind)
