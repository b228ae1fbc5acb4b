"""A run for a paper, a model card and the hub: tables in LaTeX, figures as PDF, words in Markdown, results as files."""

from safespan.report.export.folder import write_export
