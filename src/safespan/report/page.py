"""The report: figures as SVG files, and one page that works from disk with no network."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined

from safespan.errors import DataError
from safespan.report import charts, tables
from safespan.report.verdict import MEASURES, reported, signed
from safespan.results import SCHEMAS, RunFolder, atomic_path, write_text

_FINETUNE = "contaminated"
"""The facts' fine-tune: the only one that moves utility and harm both."""
_SVG_CONFIG = {"background": "white", "rule": {"color": "#444"}, "legend": {"orient": "top", "symbolOpacity": 1}}


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph that introduces it, its figures, and what is missing if there are none."""

    anchor: str
    title: str
    text: str
    figures: list[charts.Figure]
    missing: str


def write_report(run: RunFolder) -> Path:
    """Write `figures/*.svg` and `report.html` from the tables and the manifest of a run.

    A table that is absent leaves its section out, with a line that says so.

    Returns:
        The path of the page.

    Raises:
        DataError: the folder holds no table at all, or a table or manifest that cannot be read.
    """
    found = {name: _read(run, name) for name in SCHEMAS if run.table(name).is_file()}
    if not found:
        raise DataError(f"{run.root} holds no table of results: expected {run.table('models')} (run a study first)")
    results = {name: found.get(name, pl.DataFrame(schema=schema)) for name, schema in SCHEMAS.items()}
    sections = _sections(results)
    specs = {figure.name: _spec(figure) for section in sections for figure in section.figures}
    _write_svgs(run.figures, specs)
    environment = Environment(
        loader=PackageLoader("safespan.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined,
    )  # fmt: skip
    environment.filters["signed"] = signed
    manifest = _manifest(run)
    page = environment.get_template("page.html.j2").render(
        manifest=manifest,
        config=json.dumps(manifest["config"], indent=2, ensure_ascii=False),
        verdicts=reported(results["verdicts"], results["trials"]),
        measures=MEASURES,
        facts=_facts(results),
        models=tables.model_rows(results["models"]),
        sections=sections,
        specs={name: {**spec, "title": ""} for name, spec in specs.items()},  # the page has it as a heading
        bundle=_bundle(),
    )
    write_text(run.report, page)
    return run.report


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that sets `window.vegaEmbed`."""
    return vl_convert.javascript_bundle().replace("</script", "<\\/script")  # type: ignore[call-arg]


def _read(run: RunFolder, name: str) -> pl.DataFrame:
    try:
        return run.read_table(name)
    except pl.exceptions.PolarsError as problem:
        expected = ", ".join(SCHEMAS[name])
        first = str(problem).splitlines()[0]
        raise DataError(f"{run.table(name)} is not a {name} table ({first}): expected columns {expected}") from None


def _manifest(run: RunFolder) -> dict[str, Any]:
    empty: dict[str, Any] = {"name": run.root.name, "command": "", "config": {}, "seed": None, "created": ""}
    empty |= {"versions": {}, "hardware": {}, "stages": [], "inputs": {}}
    if not run.manifest.is_file():
        return empty
    try:
        return empty | json.loads(run.manifest.read_text(encoding="utf-8"))
    except json.JSONDecodeError as problem:
        raise DataError(f"{run.manifest} is not JSON ({problem}): run the study again") from None


def _facts(results: dict[str, pl.DataFrame]) -> list[str]:
    return [
        *tables.halfway_facts(results["projection"], _FINETUNE),
        *tables.overlap_facts(results["overlap"]),
        *tables.activation_facts(results["activations"]),
        *tables.judge_facts(results["models"], results["projection"]),
    ]


def _sections(results: dict[str, pl.DataFrame]) -> list[Section]:
    projection, models, overlap = results["projection"], results["models"], results["overlap"]
    sections = []
    for method in ("parallel", "orthogonal"):
        text = (
            "Only the part of each fine-tuning update that lies in the subspace is added to the aligned model."
            if method == "parallel"
            else "The part of each fine-tuning update that lies in the subspace is taken out; the rest is added."
        )
        figures = [charts.projection_curves(projection, models, method, axis) for axis in ("fraction", "energy_kept")]
        sections.append((method, f"{method.capitalize()} projection", text, figures, "projection"))
    sections += [
        (
            "overlap",
            "Overlap of updates",
            "Do alignment and fine-tuning write into the same directions of the weights?",
            [charts.overlap_curves(overlap), charts.overlap_heatmap(overlap)],
            "overlap",
        ),
        (
            "activations",
            "Overlap of activations",
            " ".join(
                [
                    "Do useful and harmful prompts live in the same directions of the residual stream?",
                    *tables.separation_facts(results["separation"], results["activations"]),
                ]
            ),
            [charts.activation_overlap(results["activations"])],
            "activations",
        ),
        (
            "removed",
            "Where the energy goes",
            "What each projection removes, layer by layer.",
            [charts.removed_energy(results["removed_energy"])],
            "removed_energy",
        ),
    ]
    return [
        Section(anchor, title, text, [f for f in figures if f], f"results/{table}.csv")
        for anchor, title, text, figures, table in sections
    ]


def _spec(figure: charts.Figure) -> dict[str, Any]:
    spec = figure.chart.properties(title=figure.title, description=figure.description).to_dict(validate=False)
    # Altair's default theme fixes sizes and colours that the page sets for itself.
    return {key: value for key, value in spec.items() if key != "config"}


def _write_svgs(folder: Path, specs: dict[str, dict[str, Any]]) -> None:
    with atomic_path(folder) as part:
        part.mkdir()
        for name, spec in specs.items():
            svg = vl_convert.vegalite_to_svg(spec, config=_SVG_CONFIG)
            (part / f"{name}.svg").write_text(svg, encoding="utf-8")
