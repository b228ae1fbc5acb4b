"""The page that a run ends with: verdict, tables, charts, provenance."""

from safespan.report.page import write_report

__all__ = ["write_report"]
