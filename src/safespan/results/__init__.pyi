from .columns import Column, Row, columns_of, schema_of
from .manifest import Manifest
from .run_folder import RunFolder
from .table_files import frame_of, header_of, read_table, write_table
from .tables import POOLED_TABLES, TABLES

__all__ = [
    "POOLED_TABLES",
    "TABLES",
    "Column",
    "Manifest",
    "Row",
    "RunFolder",
    "columns_of",
    "frame_of",
    "header_of",
    "read_table",
    "schema_of",
    "write_table",
]
