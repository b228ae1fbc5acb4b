"""The folder of an export."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from safespan.files.atomic import atomic_path
from safespan.files.disk import check_replaceable
from safespan.progress import progress_task
from safespan.report.export.card import card, hub_card
from safespan.report.export.figures import paper_figures
from safespan.report.export.grids import grids
from safespan.report.export.latex import figure, table
from safespan.report.export.shared import shared
from safespan.report.loaded import Run
from safespan.results import POOLED_TABLES, write_table
from safespan.results.claim_tables import PooledRow
from safespan.results.table_files import rows_of

_WRITTEN = {"tables", "figures", "figures.tex", "MODEL_CARD.md", "hub"}
"""What an export holds."""


def write_export(run: Run, out: Path) -> Path:
    """Write what a paper, a model card and the hub take from a run, in one step.

    `tables/*.tex` and `figures.tex` with `figures/*.pdf` for LaTeX, `MODEL_CARD.md`, and `hub/`, which is ready for
    `hf upload`: no prompts, no responses, no secrets, no local paths.

    Args:
        run: the run.
        out: the folder; an earlier export there is replaced.

    Raises:
        ConfigError: `out` is a file, or a folder with anything else in it, or it cannot be written.
        DataError: a table of the run cannot be read.
    """
    check_replaceable(out, "is no earlier export", lambda place: {path.name for path in place.iterdir()} <= _WRITTEN)
    run = shared(run)
    with atomic_path(out) as part:
        for folder in ("tables", "figures", "hub"):
            (part / folder).mkdir(parents=True)
        for grid in grids(run):
            _write(part / "tables" / f"{grid.name}.tex", table(grid))
        _write_figures(run, part)
        _write(part / "MODEL_CARD.md", card(run))
        _write_hub(run, part / "hub")
    return out


def _write_figures(run: Run, part: Path) -> None:
    lines = ["% needs \\usepackage{graphicx}\n"]
    with progress_task("figures") as tick:
        for number, drawn in enumerate(run.drawn.values(), 1):
            for paper in paper_figures(drawn):
                (part / "figures" / f"{paper.name}.pdf").write_bytes(paper.pdf)
                lines.append(figure(paper.name, paper.caption, paper.wide))
            tick(number, len(run.drawn))
    _write(part / "figures.tex", "\n".join(lines))


def _write_hub(run: Run, hub: Path) -> None:
    (hub / "data").mkdir()
    for one, folder in [(run, hub), *((of_seed, hub / "seeds" / str(seed)) for seed, of_seed in run.seeds.items())]:
        (folder / "results").mkdir(parents=True)
        for name in one.tables:
            table, path = one.table(name), folder / "results" / f"{name}.csv"  # nothing but a table is copied
            if name in POOLED_TABLES:  # it names the recipe by the study's title
                write_table(path, PooledRow, rows_of(table, PooledRow))
            else:
                path.write_bytes(one.folder.table(name).read_bytes())
        if not one.seeds:
            manifest = one.manifest.model_dump(mode="json")
            _write(folder / "manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    names = _write_data(run, hub / "data")
    _write(hub / "README.md", hub_card(run, names))


def _write_data(run: Run, data: Path) -> Sequence[str]:
    """Every table with rows as Parquet, verdicts first; their names."""
    frames = {name: run.table(name) for name in run.tables} | _of_seeds(run.seeds)
    names = sorted(frames, key=lambda name: name not in ("pooled", "verdicts"))
    written = [name for name in names if not frames[name].is_empty()]
    for name in written:
        frames[name].write_parquet(data / f"{name}.parquet")
    return written


def _of_seeds(seeds: Mapping[int, Run]) -> dict[str, pl.DataFrame]:
    """The tables of several seeds, each as one."""
    names = dict.fromkeys(name for one in seeds.values() for name in one.tables)
    return {
        name: pl.concat(
            one.table(name).select(pl.lit(seed).alias("study_seed"), pl.all())
            for seed, one in seeds.items()
            if name in one.tables
        )
        for name in names
    }


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
