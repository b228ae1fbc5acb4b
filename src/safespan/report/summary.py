"""The results of a run, for the terminal and for programs."""

from collections.abc import Sequence

from rich.table import Table

from safespan.report.page import read_results
from safespan.report.tables import Cell, model_rows
from safespan.report.verdict import d_text, number, outcome_names, reported, verdict_text, words_of
from safespan.results.claim_tables import VerdictRow
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
        separations = (d_text(report.outcomes[name]) if name in report.outcomes else "–" for name in outcomes)
        verdicts.add_row(report.name, report.verdict, *separations)
    return [models, verdicts]


def summary(run: RunFolder) -> dict[str, object]:
    """The same as plain data: `report`, `models` (rows of the table), and `verdicts`, each with its outcomes."""
    results = read_results(run)
    filters = results["models_by_filter"]
    separations = results["estimates"].filter(statistic="D").rename({"estimate": "d"})
    decided = ["verdict", "direction", "reason"]
    return {
        "report": str(run.report),
        "models": [
            {**row, "utility_by_filter": dict(filters.filter(model=row["model"]).select("filter", "utility").rows())}
            for row in results["models"].rows(named=True)
        ],
        "verdicts": [
            {name: row[name] for name in ["hypothesis", *decided]}
            | {
                "words": words_of(VerdictRow(**row)),
                "outcomes": separations.filter(hypothesis=row["hypothesis"])
                .select("outcome", *decided, "d", "low", "high")
                .rows_by_key("outcome", named=True, unique=True),
            }
            for row in results["verdicts"].rows(named=True)
        ],
    }


def verdict_lines(run: RunFolder) -> list[str]:
    """The verdicts of a run in words, and the figures behind them."""
    lines = []
    for report in reported(read_results(run)):
        lines.append(f"{report.name}: {report.verdict}. {report.words}.")
        lines += [f"  {outcome}: {verdict_text(under)}; {under.reason}" for outcome, under in report.outcomes.items()]
        for impact in report.impact:
            figures = ", ".join(
                f"{name.replace('_', ' ')} {own:.2f} (controls {number(impact.controls[name])})"
                for name, own in impact.own.items()
                if own is not None
            )
            lines.append(f"  {impact.method}, {impact.energy_kept:.0%} of the energy kept: {figures}")
    return lines


def _table(first: str, others: Sequence[str]) -> Table:
    table = Table(first, *others, box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.columns[0].no_wrap = True
    return table


def _rate(cell: Cell) -> str:
    return f"{cell.value} [{cell.interval.replace(' ', '')}]" if cell.interval else cell.value
