"""The results of a run, for the terminal and for programs."""

from collections.abc import Iterator, Mapping, Sequence

import polars as pl
from rich.table import Table

from safespan.report.findings import plain_table
from safespan.report.page import read_results
from safespan.report.tables import Cell, model_rows
from safespan.report.verdict import InTest, Reported, asked_lines, check_lines, reported, tests_of, verdict_rows
from safespan.report.words import estimate_text, number, sentence, verdict_text
from safespan.results.claim_tables import PooledRow, VerdictRow
from safespan.results.run_folder import RunFolder
from safespan.results.table_files import rows_of

_RATES = ("utility, %", "ASR, %", "refusal, %", "over-refusal, %", "general, %")

_WARNING = "warning: "
_DECIDED = ("verdict", "direction", "reason")
_ESTIMATED = ("construct", "votes", "statistic", "estimate", "low", "high", "confidence")


def summary_tables(run: RunFolder) -> list[Table]:
    """The models with their rates and, where there are verdicts, a row for each hypothesis and a column for each test.

    A cell has, for each construct, the verdict and the statistic that decides. Controls of the tests come last.
    """
    results = read_results(run)
    models = plain_table("model", *_RATES)
    for row in model_rows(results["models"]):
        models.add_row(row.model, *map(_rate, row.rates))
    reports = reported(results)
    if not reports:
        return [models]
    tests = tests_of(reports)
    verdicts = plain_table("hypothesis", *(f"{test} test" for test in tests))
    for report in reports:
        verdicts.add_row(report.name, *(_verdict(report.tests.get(test)) for test in tests))
    return [models, verdicts]


def summary(run: RunFolder) -> dict[str, object]:
    """The same as plain data: `report`, `models`, `verdicts`, each with its outcomes, and `checks` of the tests."""
    results = read_results(run)
    filters = results["models_by_filter"]
    deciding, every = results["estimates"].filter("decides"), verdict_rows(results)
    return {
        "report": str(run.report),
        "models": [
            {**row, "utility_by_filter": dict(filters.filter(model=row["model"]).select("filter", "utility").rows())}
            for row in results["models"].rows(named=True)
        ],
        "verdicts": [
            {name: row[name] for name in ("hypothesis", "group", "test", "construct", *_DECIDED)}
            | {
                "words": sentence(VerdictRow(**row), every),
                "outcomes": deciding.filter(**{name: row[name] for name in ("hypothesis", "test", "construct")})
                .select("outcome", *_ESTIMATED, *_DECIDED)
                .rows_by_key("outcome", named=True, unique=True),
            }
            for row in results["verdicts"].rows(named=True)
        ],
        "checks": [{"well": well, "text": text} for well, text in check_lines(reported(results), results["models"])],
        "asked": list(asked_lines(results, run.read_manifest())),
    }


def verdict_lines(run: RunFolder) -> list[str]:
    """The verdicts of a run in words, test by test, the figures behind them, and the checks of the tests."""
    results = read_results(run)
    reports = reported(results)
    lines = [
        line
        for report in reports
        for test, judged in report.tests.items()
        for line in [*_heads(report.name, test, judged), *_lines(judged)]
    ]
    return [*lines, *_checks(reports, results), *asked_lines(results, run.read_manifest())]


def failed_checks(run: RunFolder) -> list[str]:
    """The checks of the roles and of the tests that failed, as warnings."""
    results = read_results(run)
    return [line for line in _checks(reported(results), results) if line.startswith(_WARNING)]


def _checks(reports: Sequence[Reported], results: Mapping[str, pl.DataFrame]) -> Iterator[str]:
    lines = check_lines(reports, results["models"])
    return (f"{'' if well else _WARNING}check of the {text}" for well, text in lines)


def pooled_lines(run: RunFolder) -> list[str]:
    """The verdicts on a recipe, over its seeds."""
    rows = rows_of(run.read_table("pooled"), PooledRow)
    return [
        f"{row.hypothesis}, {row.test} test, {row.construct}, {row.seeds} seeds: {verdict_text(row)}; "
        f"{row.statistic} {estimate_text(row)}, sd over seeds {row.sd:.2f}"
        for row in rows
        if row.votes
    ]


def _heads(name: str, test: str, judged: InTest) -> list[str]:
    return [
        f"{name}, {test} test, {construct}: {verdict_text(row)}. {judged.words[construct]}."
        for construct, row in judged.verdicts.items()
    ]


def _lines(judged: InTest) -> list[str]:
    first = next(iter(judged.verdicts.values()))
    lines = [] if judged.outcomes else [f"  {first.reason}"]
    for outcome, row in judged.outcomes.items():
        beside = "" if row.votes else " (does not vote)"
        lines.append(f"  {row.construct}, {outcome}{beside}: {verdict_text(row)}; {row.reason}")
    if judged.outcomes and judged.coverage and judged.coverage.remark:
        lines.append(f"  remark: {judged.coverage.remark}")
    for impact in judged.impact:
        figures = []
        for name, own in impact.own.items():
            others = ", ".join(f"{other} {number(means[name])}" for other, means in impact.beside.items())
            if own is not None:
                figures.append(f"{name.replace('_', ' ')} {own:.2f} ({others})")
        lines.append(f"  {impact.where}: {', '.join(figures)}")
    return lines


def _rate(cell: Cell) -> str:
    return f"{cell.value} [{cell.interval.replace(' ', '')}]" if cell.interval else cell.value


def _verdict(judged: InTest | None) -> str:
    if judged is None:
        return "–"
    lines = []
    for construct, row in judged.verdicts.items():
        voting = judged.voting(construct)
        lines += [
            f"{construct}: {verdict_text(row)}",
            *([f"  {voting.statistic} {estimate_text(voting)}"] if voting else []),
        ]
    return "\n".join(lines)
