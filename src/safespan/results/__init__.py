"""The results of a run: its folder, tables and manifest."""

from safespan.results.columns import Column, Row, columns_of, schema_of
from safespan.results.manifest import Manifest
from safespan.results.run_folder import RunFolder
from safespan.results.table_files import frame_of, header_of, read_table, write_table
from safespan.results.tables import POOLED_TABLES, TABLES
