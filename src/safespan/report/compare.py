"""Several runs on one page, side by side: other models, other seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from safespan.errors import DataError
from safespan.report import charts, tables
from safespan.report.answers import toy
from safespan.report.page import margin_of, read_results, write_page
from safespan.report.pooled import pooled_rows
from safespan.report.sections import Section, section
from safespan.report.verdict import reported
from safespan.results import TABLES, Manifest, RunFolder, write_table
from safespan.results.claim_tables import PooledRow
from safespan.results.completeness import warned_problems
from safespan.settings.names import TESTS

_PAIRS = (("alignment", "useful"), ("alignment", "harmful"), ("useful", "harmful"))
"""Of the updates: what Experiment 3 asks about."""
_MODEL = "aligned"
"""Whose activations are compared, where a run has them."""


def write_comparison(runs: Sequence[RunFolder], out: Path) -> Path:
    """Write `comparison.html` and `figures/` into a folder: the verdicts, models and curves of several runs.

    Runs that differ by their seed alone are pooled: verdicts about their recipe, also in `results/pooled.csv`. What a
    folder lacks, or what differs from its manifest, is a warning on the page and in the log.

    Args:
        runs: the run folders; each is called by its folder's name, with its parent's where two are alike.
        out: the folder to write to.

    Returns:
        The path of the page.

    Raises:
        DataError: fewer than two runs, a run given twice, or a table that cannot be read.
    """
    together = compared(runs)
    names, results = list(together.results), together.results
    reports = {name: {report.name: report for report in reported(results[name])} for name in names}
    items = {item.name: item for of_run in reports.values() for item in of_run.values()}
    tested = {
        test: [
            name for name in items if any(test in of_run[name].tests for of_run in reports.values() if name in of_run)
        ]
        for test in TESTS
    }
    pooled = pooled_rows(runs)
    write_table(RunFolder(out).table("pooled"), PooledRow, pooled)
    return write_page(
        out / "comparison.html",
        "compare.html.j2",
        together.forests,
        together.sections,
        title=f"{len(names)} runs compared",
        manifests=together.manifests,
        toy=_toy(together.manifests),
        problems=[text for run in runs for text in warned_problems(run, run.read_manifest())],
        verdicts=reports,
        margins={name: margin_of(manifest) for name, manifest in together.manifests.items()},
        pooled=[row for row in pooled if row.votes],
        hypotheses={test: of_test for test, of_test in tested.items() if of_test},
        models={name: tables.model_rows(results[name]["models"]) for name in names},
    )


def _toy(manifests: Mapping[str, Manifest]) -> str:
    """What is said of toy models, where all runs have such."""
    said = [toy(manifest) for manifest in manifests.values()]
    return said[0] if all(said) else ""


@dataclass(frozen=True)
class Compared:
    """Several runs side by side.

    Attributes:
        results: name of the run -> its tables.
        manifests: name of the run -> its manifest.
        forests: the verdicts as pictures, one a test.
        sections: the evidence.
    """

    results: Mapping[str, Mapping[str, pl.DataFrame]]
    manifests: Mapping[str, Manifest]
    forests: list[charts.Figure]
    sections: list[Section]


def compared(runs: Sequence[RunFolder]) -> Compared:
    """Read several runs, and draw what is compared of them.

    Raises:
        DataError: fewer than two runs, a run given twice, or a table that cannot be read.
    """
    folders = [run.root.resolve() for run in runs]
    if len(folders) < 2 or len(set(folders)) < len(folders):
        given = ", ".join(str(run.root) for run in runs)
        raise DataError(f"expected two or more different run folders to compare, given {given}")
    names = names_of(folders)
    results = {name: read_results(run) for name, run in zip(names, runs, strict=True)}
    manifests = {name: run.read_manifest() for name, run in zip(names, runs, strict=True)}
    all_runs = {
        table: pl.concat([results[name][table].with_columns(run=pl.lit(name)) for name in names]) for table in TABLES
    }
    margins = {margin_of(manifest) for manifest in manifests.values()}
    margin = margins.pop() if len(margins) == 1 else None
    forests = [charts.forest(all_runs["estimates"].filter(test=test), margin, by="run") for test in TESTS]
    return Compared(results, manifests, [forest for forest in forests if forest], _sections(all_runs))


def names_of(folders: Sequence[Path]) -> list[str]:
    """What each folder is called: the last parts of its path that tell it from the others."""
    for depth in range(1, max(len(folder.parts) for folder in folders) + 1):
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
        if len(set(names)) == len(names):
            break
    return names


def _sections(all_runs: Mapping[str, pl.DataFrame]) -> list[Section]:
    projection = all_runs["projection"]
    finetunes = projection["finetune"].unique(maintain_order=True).to_list()
    finetune = "contaminated" if "contaminated" in finetunes or not finetunes else finetunes[0]
    projection = projection.filter(finetune=finetune)
    pairs = pl.any_horizontal("again", *((pl.col("x") == x) & (pl.col("y") == y) for x, y in _PAIRS))
    return [
        *(
            section(
                method,
                f"{method.capitalize()} projection, {finetune} fine-tune",
                ["Utility and attack success of every run; one column each."],
                "projection",
                *charts.projection_figures(projection, all_runs["models"], method, by="run"),
            )
            for method in ("parallel", "orthogonal")
        ),
        section(
            "overlap",
            "Overlap of updates",
            ["Alignment with useful, alignment with harmful, useful with harmful."],
            "overlap",
            charts.overlap_curves(all_runs["overlap"].filter(pairs), by="run"),
        ),
        section(
            "activations",
            f"Activations of the {_MODEL} models",
            ["Useful and harmful prompts at each layer."],
            "activations",
            charts.activation_overlap(all_runs["activations"].filter(model=_MODEL), by="run"),
            charts.separation(all_runs["separation"].filter(model=_MODEL), by="run"),
        ),
    ]
