"""The report: one page that works from disk with no network, and its figures as files."""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import polars as pl
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined

from safespan.errors import DataError
from safespan.files.atomic import write_text
from safespan.report import charts, tables
from safespan.report.answers import PAPER, answers_of, groups_of, reach, toy
from safespan.report.generations import COLUMNS, responses
from safespan.report.impact import MEASURES, READING
from safespan.report.sections import Section, sections
from safespan.report.static import write_figures
from safespan.report.verdict import asked_lines, check_lines, notes_beside, reported, tests_of
from safespan.report.words import QUESTIONS, TEXTS
from safespan.results import TABLES, Manifest, RunFolder, frame_of
from safespan.results.completeness import warned_problems, why_empty
from safespan.settings.names import SYMBOLS


def write_report(run: RunFolder, generations: bool = True) -> Path:
    """Write `figures/*.svg`, `figures/*.pdf` and `report.html` from the tables and the manifest of a run.

    A table that is absent leaves its section out; the page names these tables at its end. What the folder lacks, or
    what differs from its manifest, is a warning on the page and in the log.

    Args:
        run: the run folder.
        generations: whether the models' responses are on the page, where they are shown on demand.

    Returns:
        The path of the page.

    Raises:
        DataError: the folder holds no table at all, or a table, manifest or file of generations that cannot be read.
    """
    results = read_results(run)
    manifest = run.read_manifest()
    reports = reported(results)
    checks = list(check_lines(reports, results["models"]))
    rows, total = responses(run, results["models"]["model"].to_list()) if generations else ([], 0)
    return write_page(
        run.report,
        "report.html.j2",
        forests_of(results, manifest),
        sections(results),
        manifest=manifest,
        config=json.dumps(manifest.config, indent=2, ensure_ascii=False),
        answers=answers_of(reports),
        reach=reach(manifest),
        toy=toy(manifest),
        claims=manifest.hypotheses,
        symbols=SYMBOLS,
        paper=PAPER,
        groups=groups_of(reports),
        verdicts=reports,
        tests=tests_of(reports),
        margin=margin_of(manifest),
        checks=checks,
        problems=warned_problems(run, manifest),
        notes=notes_beside(manifest, checks),
        asked=list(asked_lines(results, manifest)),
        questions=QUESTIONS,
        measures=MEASURES,
        reading=READING,
        facts=[
            *tables.judge_facts(results["models"], results["projection"]),
            *tables.no_answer_facts(results["models"]),
        ],
        models=tables.model_rows(results["models"]),
        responses={"columns": COLUMNS, "rows": rows},
        total=total,
        left_out=not generations,
    )


def write_page(page: Path, template: str, forests: list[charts.Figure], every: list[Section], **values: object) -> Path:
    """Write a page with all that draws its charts, and the charts as files into `figures/` beside it."""
    shown = [section for section in every if section.figures]
    absent = list(dict.fromkeys(section.table for section in every if not section.figures))
    figures = all_figures(forests, shown)
    write_figures(page.parent / "figures", figures)
    environment = Environment(
        loader=PackageLoader("safespan.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined,
    )  # fmt: skip
    environment.filters |= TEXTS
    # Columns in the tables' order, and no space spent between them.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":")}
    values |= {"specs": {figure.name: {**figure.spec, "title": ""} for figure in figures}}  # headings are the titles
    text = environment.get_template(template).render(
        values, forests=forests, sections=shown, absent=absent, bundle=_bundle()
    )
    write_text(page, text)
    return page


def forests_of(results: Mapping[str, pl.DataFrame], manifest: Manifest) -> list[charts.Figure]:
    """The verdicts of a run as a picture; nothing where there are none."""
    forest = charts.forest(results["estimates"], margin_of(manifest))
    return [forest] if forest else []


def all_figures(forests: Iterable[charts.Figure], shown: Iterable[Section]) -> list[charts.Figure]:
    """Every figure of a page, in its order."""
    return [*forests, *(figure for section in shown for figure in section.figures)]


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that sets `window.vegaEmbed`."""
    return vl_convert.javascript_bundle().replace("</script", "<\\/script")  # type: ignore[call-arg]


def read_results(run: RunFolder) -> dict[str, pl.DataFrame]:
    """Every table of a run, empty where it is absent.

    Raises:
        DataError: no table at all, or one that cannot be read.
    """
    tables_of_run = {name: run.read_table(name) for name in TABLES if run.has(run.table(name))}
    if not tables_of_run:
        raise DataError(why_empty(run))
    return {name: tables_of_run.get(name, frame_of(kind, [])) for name, kind in TABLES.items()}


def margin_of(manifest: Manifest) -> float | None:
    """The margin of the verdict, from the configuration."""
    verdict = manifest.config.get("verdict")
    margin = verdict.get("margin") if isinstance(verdict, dict) else None
    return float(margin) if isinstance(margin, int | float) else None
