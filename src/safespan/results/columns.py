"""Descriptions of columns, as annotations of the fields of a row class."""

from dataclasses import dataclass, fields
from types import NoneType
from typing import TYPE_CHECKING, Annotated, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Column:
    """The description of one column.

    Attributes:
        text: the meaning of its values, in one line.
        unit: of its numbers; empty for names, flags and pure numbers.
        low: the smallest value it can have; None where there is no bound.
        high: the largest.
        values: the texts that it can hold; empty where any text can stand.
        any_scale: whether values are of any scale: they are written to six significant digits, where others have six
            decimals.
    """

    text: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] = ()
    any_scale: bool = False

    @property
    def range(self) -> str:
        """The range in words; empty where there is none."""
        if self.low is None:
            return "" if self.high is None else f"≤ {self.high:g}"
        return f"≥ {self.low:g}" if self.high is None else f"[{self.low:g}, {self.high:g}]"


@dataclass(frozen=True)
class Row:
    """A row of a table; each field is a column, annotated with its `Column`."""


def columns_of(row: type[Row]) -> dict[str, Column]:
    """Name -> description of every column, in the table's order."""
    hints = get_type_hints(row, include_extras=True)
    return {field.name: _described(hints[field.name]) for field in fields(row)}


def schema_of(row: type[Row]) -> "dict[str, type[pl.DataType]]":
    """Name -> type of every column, in the table's order."""
    import polars as pl

    types: dict[type, type[pl.DataType]] = {float: pl.Float64, int: pl.Int64, str: pl.String, bool: pl.Boolean}
    hints = get_type_hints(row)
    return {field.name: types[_value_type(hints[field.name])] for field in fields(row)}


def required_of(row: type[Row]) -> list[str]:
    """Names of the columns of text and of flags that have no empty cell."""
    return [name for name, hint in get_type_hints(row).items() if hint in (str, bool)]


def _described(hint: object) -> Column:
    assert get_origin(hint) is Annotated
    [column] = [mark for mark in get_args(hint) if isinstance(mark, Column)]
    return column


def _value_type(hint: type) -> type:
    """The type of the values that are present: `int` of `int | None`."""
    kinds: list[type] = [kind for kind in get_args(hint) or (hint,) if kind is not NoneType]
    return kinds[0]
