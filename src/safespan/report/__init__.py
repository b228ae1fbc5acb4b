"""The page that a run ends with, and the page that compares several: verdicts, tables, charts, provenance."""

from safespan.report.compare import write_comparison
from safespan.report.loaded import Run, load_run
from safespan.report.page import write_report
