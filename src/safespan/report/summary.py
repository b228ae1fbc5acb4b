"""The results of a run, for the terminal and for programs."""

from collections.abc import Sequence
from typing import Any

import polars as pl
from rich.table import Table

from safespan.report.page import read_results
from safespan.report.tables import Cell, model_rows
from safespan.report.verdict import outcome_names, reported, words_of
from safespan.results.run_folder import RunFolder

_RATES = ("utility, %", "ASR, %", "refusal, %", "over-refusal, %", "general, %")


def summary_tables(run: RunFolder) -> list[Table]:
    """The models with their rates and, where there is a verdict, every hypothesis with its verdict and D."""
    results = read_results(run)
    models = _table("model", _RATES)
    for row in model_rows(results["models"]):
        models.add_row(row.model, *map(_rate, row.rates))
    reports = reported(results)
    if not reports:
        return [models]
    outcomes = outcome_names(reports)
    verdicts = _table("hypothesis", ["verdict", *(f"D, {outcome}" for outcome in outcomes)])
    for report in reports:
        separations = (report.outcomes[name].d if name in report.outcomes else "–" for name in outcomes)
        verdicts.add_row(report.name, report.verdict, *separations)
    return [models, verdicts]


def summary(run: RunFolder) -> dict[str, object]:
    """The same as plain data: `report`, `models` (rows of the table), and `verdicts`, each with its outcomes."""
    results = read_results(run)
    filters = results["models_by_filter"]
    return {
        "report": str(run.report),
        "models": [
            {**row, "utility_by_filter": dict(filters.filter(model=row["model"]).select("filter", "utility").rows())}
            for row in results["models"].rows(named=True)
        ],
        "verdicts": [_verdict(row, results["estimates"]) for row in results["verdicts"].rows(named=True)],
    }


def _verdict(row: dict[str, Any], estimates: pl.DataFrame) -> dict[str, object]:
    decisions = estimates.filter(hypothesis=row["hypothesis"], statistic="D")
    decided = ("verdict", "direction", "reason")
    return {
        "hypothesis": row["hypothesis"],
        **{name: row[name] for name in decided},
        "words": words_of(row["hypothesis"], row["kind"], row["verdict"], row["direction"] or ""),
        "outcomes": {
            decision["outcome"]: {
                **{name: decision[name] for name in decided},
                "d": decision["estimate"],
                "low": decision["low"],
                "high": decision["high"],
            }
            for decision in decisions.rows(named=True)
        },
    }


def _table(first: str, others: Sequence[str]) -> Table:
    table = Table(first, *others, box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.columns[0].no_wrap = True
    return table


def _rate(cell: Cell) -> str:
    return f"{cell.value} [{cell.interval.replace(' ', '')}]" if cell.interval else cell.value
