"""The results of a run: its folder, tables and manifest."""

from safespan.results.columns import Column, Row, columns_of, schema_of
from safespan.results.manifest import Manifest
from safespan.results.run_folder import RunFolder
from safespan.results.table_files import frame_of, has_columns_of, read_table, write_table
from safespan.results.tables import TABLES

__all__ = [
    "TABLES",
    "Column",
    "Manifest",
    "Row",
    "RunFolder",
    "columns_of",
    "frame_of",
    "has_columns_of",
    "read_table",
    "schema_of",
    "write_table",
]
