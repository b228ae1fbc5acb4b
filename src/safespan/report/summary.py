"""What a run found, for the terminal and for programs."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from safespan.report.tables import Cell, model_rows
from safespan.report.verdict import reported, words_of
from safespan.results.run_folder import RunFolder
from safespan.statistics.selectivity import SEPARATION

_D = {"s": "d", "low": "low", "high": "high"}


def summary_tables(run: RunFolder) -> list[Table]:
    """The models with their rates and, where there is a verdict, every hypothesis with its verdict and D."""
    rates = ("utility, %", "ASR, %", "refusal, %", "over-refusal, %", "general, %")
    models = _table("model", rates)
    for name, cells, _ in model_rows(run.read_table("models")):
        models.add_row(name, *map(_rate, cells))
    if not run.table("verdicts").is_file():
        return [models]
    found = reported(run.read_table("verdicts"), run.read_table("trials"))
    verdicts = _table("hypothesis", ["verdict", *(f"D, {outcome}" for outcome, *_ in found[0].outcomes)])
    for item in found:
        verdicts.add_row(item.name, item.verdict, *(d for _, _, d, _ in item.outcomes))
    return [models, verdicts]


def summary(run: RunFolder) -> dict[str, Any]:
    """The same as plain data: `report`, `models` (rows of the table), and `verdicts`, each with its outcomes."""
    verdicts = run.read_table("verdicts").rows(named=True) if run.table("verdicts").is_file() else []
    names = dict.fromkeys(row["hypothesis"] for row in verdicts)
    return {
        "report": str(run.report),
        "models": run.read_table("models").rows(named=True),
        "verdicts": [_verdict([row for row in verdicts if row["hypothesis"] == name]) for name in names],
    }


def _verdict(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    whole, *parts = rows
    said = ("verdict", "direction", "reason")
    separations = {row["outcome"]: row for row in parts if row["method"] == SEPARATION}
    return {
        "hypothesis": whole["hypothesis"],
        **{name: whole[name] for name in said},
        "words": words_of(whole["hypothesis"], whole["kind"], whole["verdict"], whole["direction"] or ""),
        "outcomes": {
            row["outcome"]: {
                **{name: row[name] for name in said},
                **{name: separations.get(row["outcome"], {}).get(column) for column, name in _D.items()},
            }
            for row in parts
            if row["method"] == "all"
        },
    }


def _table(first: str, others: Sequence[str]) -> Table:
    table = Table(first, *others, box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.columns[0].no_wrap = True
    return table


def _rate(cell: Cell) -> str:
    return f"{cell.value} [{cell.interval.replace(' ', '')}]" if cell.interval else cell.value
