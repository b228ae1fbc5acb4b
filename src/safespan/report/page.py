"""The report: one page that works from disk with no network, and its figures as files."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, Field, ValidationError

from safespan.errors import DataError
from safespan.report import charts, tables
from safespan.report.generations import COLUMNS, said
from safespan.report.sections import Section, sections
from safespan.report.static import write_figures
from safespan.report.verdict import MEASURES, reported, signed, summary
from safespan.results import SCHEMAS, RunFolder, write_text


class _Stage(BaseModel):
    name: str
    seconds: Annotated[float, Field(allow_inf_nan=False)]
    reused: bool


class _Prompts(BaseModel):
    rows: int
    sha256: str


class _Manifest(BaseModel):
    """The fields of a manifest that a page shows."""

    name: str
    command: str
    config: dict[str, Any]
    seed: int | None
    created: str
    versions: dict[str, str]
    hardware: dict[str, str | int | float | None]
    stages: list[_Stage]
    inputs: dict[str, str]
    prompts: dict[str, _Prompts]


_FINETUNE = "contaminated"
"""The facts' fine-tune: the only one that moves utility and harm both."""


def write_report(run: RunFolder, generations: bool = True) -> Path:
    """Write `figures/*.svg`, `figures/*.pdf` and `report.html` from the tables and the manifest of a run.

    A table that is absent leaves its section out, with a line that says so.

    Args:
        run: the run folder.
        generations: whether what the models said is on the page, where it is shown on demand.

    Returns:
        The path of the page.

    Raises:
        DataError: the folder holds no table at all, or a table, manifest or file of generations that cannot be read.
    """
    results = read_results(run)
    manifest = read_manifest(run)
    found = sections(results)
    verdict = charts.forest(results["verdicts"], margin_of(manifest))
    rows, total = said(run, results["models"]["model"].to_list()) if generations else ([], 0)
    figures = figures_of(verdict, found)
    write_figures(run.figures, figures)
    page = render(
        "report.html.j2",
        figures,
        manifest=manifest,
        config=json.dumps(manifest["config"], indent=2, ensure_ascii=False),
        verdicts=reported(results["verdicts"], results["trials"]),
        summary=summary(results["verdicts"]),
        verdict=verdict,
        measures=MEASURES,
        facts=_facts(results),
        models=tables.model_rows(results["models"]),
        sections=found,
        said={"columns": COLUMNS, "rows": rows},
        total=total,
        left_out=not generations,
    )
    write_text(run.report, page)
    return run.report


def figures_of(verdict: charts.Figure | None, found: list[Section]) -> list[charts.Figure]:
    """All figures of a page in order."""
    return [*([verdict] if verdict else []), *(figure for section in found for figure in section.figures)]


def render(template: str, figures: list[charts.Figure], **values: Any) -> str:
    """A page from its template, with the charts' specifications and all that draws them."""
    environment = Environment(
        loader=PackageLoader("safespan.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined,
    )  # fmt: skip
    environment.filters["signed"] = signed
    # Columns in the tables' order, and no space spent between them.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":")}
    specs = {figure.name: {**figure.spec, "title": ""} for figure in figures}  # the page has it as a heading
    return environment.get_template(template).render(specs=specs, bundle=_bundle(), **values)


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that sets `window.vegaEmbed`."""
    return vl_convert.javascript_bundle().replace("</script", "<\\/script")  # type: ignore[call-arg]


def read_results(run: RunFolder) -> dict[str, pl.DataFrame]:
    """Every table of a run, empty where it is absent.

    Raises:
        DataError: no table at all, or one that cannot be read.
    """
    found = {name: _read(run, name) for name in SCHEMAS if run.has(run.table(name))}
    if not found:
        raise DataError(f"{run.root} holds no table of results: expected {run.table('models')} (run a study first)")
    return {name: found.get(name, pl.DataFrame(schema=schema)) for name, schema in SCHEMAS.items()}


def _read(run: RunFolder, name: str) -> pl.DataFrame:
    try:
        table = run.read_table(name)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as problem:
        expected = ", ".join(SCHEMAS[name])
        reason = str(problem).partition("\n")[0]
        raise DataError(f"{run.table(name)} is not a {name} table ({reason}): expected columns {expected}") from None
    if (first := table.to_series(0)).null_count():
        raise DataError(f"{run.table(name)} has a row without {first.name}: run the study again")
    for column in table.select(pl.selectors.float()):
        if not column.is_finite().all():  # a run writes what is not defined as an empty cell
            raise DataError(f"{run.table(name)} holds NaN or Inf in column {column.name}: run the study again")
    return table


def read_manifest(run: RunFolder) -> dict[str, Any]:
    """The manifest of a run, with empty fields where it has none.

    Raises:
        DataError: it is not JSON.
    """
    empty: dict[str, Any] = {"name": run.root.name, "command": "", "config": {}, "seed": None, "created": ""}
    empty |= {"versions": {}, "hardware": {}, "stages": [], "inputs": {}, "prompts": {}}
    if not run.has(run.manifest):
        return empty
    try:
        found = empty | json.loads(run.manifest.read_text(encoding="utf-8"))
        json.dumps(found, ensure_ascii=False).encode()
        _Manifest.model_validate(found)
    except ValidationError as problem:
        first = problem.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise DataError(f"{run.manifest} has a wrong {field} ({first['msg']}): run the study again") from None
    except (ValueError, TypeError, RecursionError) as problem:
        raise DataError(f"{run.manifest} is not JSON ({problem}): run the study again") from None
    return found


def margin_of(manifest: Mapping[str, Any]) -> float | None:
    """The margin of the verdict, from the configuration."""
    verdict = manifest["config"].get("verdict")
    margin = verdict.get("margin") if isinstance(verdict, dict) else None
    return float(margin) if isinstance(margin, int | float) else None


def _facts(results: Mapping[str, pl.DataFrame]) -> list[str]:
    return [
        *tables.halfway_facts(results["projection"], _FINETUNE),
        *tables.overlap_facts(results["overlap"]),
        *tables.activation_facts(results["activations"]),
        *tables.judge_facts(results["models"], results["projection"]),
    ]
