"""The results of a run, for the terminal and for programs."""

from collections.abc import Sequence

import polars as pl
from rich.table import Table

from safespan.report.page import read_results
from safespan.report.tables import Cell, model_rows
from safespan.report.verdict import SCORE, InTest, reported, tests_of
from safespan.report.words import estimate_text, number, verdict_text, words_of
from safespan.results.claim_tables import VerdictRow
from safespan.results.run_folder import RunFolder

_RATES = ("utility, %", "ASR, %", "refusal, %", "over-refusal, %", "general, %")

_DECIDED = ("verdict", "direction", "reason")
_ESTIMATED = ("construct", "votes", "statistic", "estimate", "low", "high")


def summary_tables(run: RunFolder) -> list[Table]:
    """The models with their rates and, where there are verdicts, a row for each hypothesis and a column for each test.

    A cell has the verdict, and below it the statistic that decides under each outcome that votes.
    """
    results = read_results(run)
    models = _table("model", _RATES)
    for row in model_rows(results["models"]):
        models.add_row(row.model, *map(_rate, row.rates))
    reports = reported(results)
    if not reports:
        return [models]
    tests = tests_of(reports)
    verdicts = _table("hypothesis", [f"{test} test" for test in tests])
    for report in reports:
        verdicts.add_row(report.name, *(_verdict(report.tests.get(test)) for test in tests))
    return [models, verdicts]


def summary(run: RunFolder) -> dict[str, object]:
    """The same as plain data: `report`, `models` (rows of the table), and `verdicts`, each with its outcomes."""
    results = read_results(run)
    filters = results["models_by_filter"]
    deciding = results["estimates"].filter(pl.col("statistic") != SCORE)
    return {
        "report": str(run.report),
        "models": [
            {**row, "utility_by_filter": dict(filters.filter(model=row["model"]).select("filter", "utility").rows())}
            for row in results["models"].rows(named=True)
        ],
        "verdicts": [
            {name: row[name] for name in ("hypothesis", "test", *_DECIDED)}
            | {
                "words": words_of(VerdictRow(**row)),
                "outcomes": deciding.filter(hypothesis=row["hypothesis"], test=row["test"])
                .select("outcome", *_ESTIMATED, *_DECIDED)
                .rows_by_key("outcome", named=True, unique=True),
            }
            for row in results["verdicts"].rows(named=True)
        ],
    }


def verdict_lines(run: RunFolder) -> list[str]:
    """The verdicts of a run in words, test by test, and the figures behind them."""
    return [
        line
        for report in reported(read_results(run))
        for test, judged in report.tests.items()
        for line in [f"{report.name}, {test} test: {judged.verdict}. {judged.words}.", *_lines(judged)]
    ]


def _lines(judged: InTest) -> list[str]:
    lines = [] if judged.outcomes else [f"  {judged.reason}"]
    for outcome, row in judged.outcomes.items():
        beside = "" if row.votes else " (does not vote)"
        lines.append(f"  {row.construct}, {outcome}{beside}: {verdict_text(row)}; {row.reason}")
    for impact in judged.impact:
        figures = []
        for name, own in impact.own.items():
            others = ", ".join(f"{other} {number(means[name])}" for other, means in impact.beside.items())
            if own is not None:
                figures.append(f"{name.replace('_', ' ')} {own:.2f} ({others})")
        lines.append(f"  {impact.where}: {', '.join(figures)}")
    return lines


def _table(first: str, others: Sequence[str]) -> Table:
    table = Table(first, *others, box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.columns[0].no_wrap = True
    return table


def _rate(cell: Cell) -> str:
    return f"{cell.value} [{cell.interval.replace(' ', '')}]" if cell.interval else cell.value


def _verdict(judged: InTest | None) -> str:
    if judged is None:
        return "–"
    voting = (f"{row.construct}: {row.statistic} {estimate_text(row)}" for row in judged.voting)
    return "\n".join([judged.verdict, *voting])
