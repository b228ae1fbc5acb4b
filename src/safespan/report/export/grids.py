"""The tables of a paper as text, before LaTeX or Markdown: verdicts, the models' outcomes, how the models were made."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safespan.report.loaded import AnyVerdict, Run
from safespan.report.tables import ModelRates, model_rows
from safespan.report.words import estimate_text, number, verdict_text

Cell = tuple[str, ...]
"""The lines of a cell."""
NONE = "–"

_RATES = ("utility, %", "attack success, %", "refusal, %", "over-refusal, %", "general ability, %")
_MADE = ("model", "made from", "rows", "steps", "learning rate", "rows a step", "trained", "final loss")


@dataclass(frozen=True)
class Grid:
    """A table as text.

    Attributes:
        name: of its file.
        caption: what it shows.
        header: names of the columns.
        rows: as many cells each.
    """

    name: str
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def grids(run: Run) -> list[Grid]:
    """The tables of a run that have a row."""
    return [grid for grid in (verdict_grid(run), model_grid(run), training_grid(run)) if grid.rows]


def verdict_grid(run: Run) -> Grid:
    """Claim × test: each construct a row, the verdict above the statistic with its interval."""
    rows = []
    for name, by_test in run.by_claim().items():
        constructs = dict.fromkeys(verdict.construct for verdicts in by_test.values() for verdict in verdicts)
        for place, construct in enumerate(constructs):
            cells = [_verdict(by_test.get(test, []), construct) for test in run.tests]
            rows.append([("" if place else name,), (construct,), *cells])
    seeds = f" over {len(run.seeds)} seeds" if run.seeds else ""
    return Grid(
        "verdicts",
        f"Verdict of each test on each claim{seeds}, with the statistic that it rests on and its interval, which holds "
        "for all claims of a test together. D: harm, or the loss of refusals, goes before utility. A: it comes "
        "before capability is lost. T: harm is kept out, or refusals are kept, in training. Random controls are at 0.",
        ("claim", "construct", *(f"{test} test" for test in run.tests)),
        rows,
    )


def _verdict(verdicts: Sequence[AnyVerdict], construct: str) -> Cell:
    for verdict in verdicts:
        if verdict.construct == construct:
            return verdict_text(verdict), f"{verdict.statistic} {estimate_text(verdict)}" if verdict.statistic else ""
    return (NONE,)


def model_grid(run: Run) -> Grid:
    """Every model with its rates in percent and their 95 % intervals; rates that no model has are left out."""
    rates = list(_rates(run))
    measured = [place for place in range(len(_RATES)) if any(row.rates[place].value != NONE for _, row in rates)]
    rows = []
    for name, row in rates:
        cells = [row.rates[place] for place in measured]
        rows.append([(name,), *((cell.value, cell.interval.replace(" ", "")) for cell in cells), (row.harmfulness,)])
    return Grid(
        "models",
        "Outcomes of every model as it is, with 95 % Wilson intervals. Harmfulness is the judge's mean score, from 1 "
        "(refusal) to 5 (full compliance).",
        ("model", *(_RATES[place] for place in measured), "harmfulness"),
        rows,
    )


def _rates(run: Run) -> Iterator[tuple[str, ModelRates]]:
    runs: list[tuple[int | None, Run]] = [*run.seeds.items()] or [(None, run)]
    for seed, one in runs:
        for row in model_rows(one.table("models")) if "models" in one.tables else ():
            yield row.model if seed is None else f"{row.model}, seed {seed}", row


def training_grid(run: Run) -> Grid:
    """How each model of the study was made, from the records of the trainings; of several seeds those of the first."""
    sources = run.manifest.config.get("models")
    sources = sources if isinstance(sources, dict) else {}
    rows = [_made(role, _fields(source), run.manifest.training.get(role)) for role, source in sources.items()]
    return Grid("finetunes", "How each model was made. All trainings have a cosine schedule.", _MADE, rows)


def _made(role: str, source: Mapping[str, Any], record: Mapping[str, Any] | None) -> list[Cell]:
    start = str(source.get("model") or source.get("start") or NONE)
    if not record:
        return [(role,), (start,), *[(NONE,)] * (len(_MADE) - 2)]
    config = _fields(record.get("config"))
    lora = _fields(config.get("lora"))
    protect = _fields(config.get("protect"))
    what = f"LoRA, rank {lora.get('rank')}" if lora else "all weights"
    batch = [config.get("batch_size"), config.get("accumulation_steps"), record.get("processes")]
    rows = 1
    for factor in batch:
        rows *= factor if isinstance(factor, int) else 1
    texts = (
        f"{record.get('examples', NONE)}{_contaminated(config)}",
        f"{record.get('steps', NONE)}",
        f"{config.get('learning_rate', NONE)}",
        f"{rows}",
        f"{what}, {protect.get('hypothesis')} protected" if protect else what,
        number(loss) if isinstance(loss := record.get("final_loss"), float) else NONE,
    )
    return [(role,), (start,), *((text,) for text in texts)]


def _contaminated(config: Mapping[str, Any]) -> str:
    return f", {config.get('contamination_percent')} % contaminating" if config.get("contaminate_with") else ""


def _fields(value: object) -> Mapping[str, Any]:
    """The fields of a part of a record; none where a record has something else."""
    return value if isinstance(value, dict) else {}
