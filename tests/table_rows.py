"""Rows of results with the cells that a test is about, and nothing measured in the others."""

import math
from typing import TypeVar

import polars as pl

from safespan.results import Row, columns_of, schema_of

Kind = TypeVar("Kind", bound=Row)
_UNMEASURED = {pl.Float64: math.nan, pl.String: "", pl.Boolean: False}


def row_of(kind: type[Kind], **cells: object) -> Kind:
    """A row; cells that are not given are NaN, empty, false or the smallest count."""
    columns = columns_of(kind)
    rest = {name: _UNMEASURED.get(type_, int(columns[name].low or 0)) for name, type_ in schema_of(kind).items()}
    return kind(**{**rest, **cells})
