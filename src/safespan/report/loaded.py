"""A finished run in Python: its tables, verdicts, manifest and figures."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from html import escape
from os import PathLike
from pathlib import Path

import altair as alt
import polars as pl

from safespan.errors import DataError
from safespan.report.charts import Figure
from safespan.report.compare import compared
from safespan.report.page import all_figures, forests_of, read_results
from safespan.report.sections import sections
from safespan.report.verdict import check_lines, claim_verdicts, reported
from safespan.report.words import estimate_text, headline, verdict_text
from safespan.results import POOLED_TABLES, TABLES, Manifest, RunFolder
from safespan.results.claim_tables import ClaimVerdict, PooledRow
from safespan.results.completeness import problems_of, why_empty
from safespan.results.table_files import rows_of
from safespan.settings.names import TESTS
from safespan.statistics.verdicts import CLAIM

AnyVerdict = ClaimVerdict | PooledRow
"""A verdict on a claim in one run, or on a recipe over its seeds. Both name their figures alike."""


_log = logging.getLogger(__name__)


def load_run(path: str | PathLike[str]) -> "Run":
    """Open the folder of a finished run, or of a study that was run under several seeds.

    A run that has not ended, or that lost a table, is opened with what is there. A warning says what is missing; it is
    in `problems` too.

    Args:
        path: the run folder.

    Raises:
        DataError: the folder is not there, or holds no results; or its manifest cannot be read.
    """
    run = Run(Path(path))
    for problem in run.problems:
        _log.warning(problem)
    return run


class Run:
    """A run with its results. Tables are read when they are asked for.

    Attributes:
        folder: the paths of the run.
        manifest: configuration, seeds, versions, hashes and times; of several seeds that of the first.
        tables: names of the tables that there are.
        seeds: of a study under several seeds, seed -> its run; empty for a single run.
        problems: what is missing, or is not as the manifest records it, a line each; empty for a whole run.
    """

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        self.folder.check_there()
        names = (*TABLES, *POOLED_TABLES)
        self.tables = tuple(name for name in names if self.folder.has(self.folder.table(name)))
        self.seeds: Mapping[int, Run] = {} if set(self.tables) & set(TABLES) else self._seeds()
        if not self.tables and not self.seeds:
            raise DataError(self._why_empty())
        self.manifest: Manifest = (
            next(iter(self.seeds.values())).manifest if self.seeds else self.folder.read_manifest()
        )
        self.problems: Sequence[str] = list(self._problems())

    def _seeds(self) -> dict[int, "Run"]:
        """The seeds that are done, in order; a run has its manifest from its end on."""
        places = self._seed_folders()
        return {number: Run(place) for number, place in places.items() if self.folder.has(place / "manifest.json")}

    def _seed_folders(self) -> dict[int, Path]:
        folder = self.folder.root / "seeds"
        numbers = sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())
        return {number: folder / str(number) for number in numbers}

    def _why_empty(self) -> str:
        root, begun = self.folder.root, ", ".join(map(str, self._seed_folders()))
        if begun:
            return f"{root} has no seed that is finished, of {begun}: wait, or run the study into this folder again"
        return why_empty(self.folder)

    def _problems(self) -> Iterator[str]:
        if not self.seeds:
            yield from problems_of(self.folder, self.manifest)
            return
        yield from (problem for run in self.seeds.values() for problem in run.problems)
        if open_seeds := [str(seed) for seed in self._seed_folders() if seed not in self.seeds]:
            yield f"{self.folder.root} has seeds that are not finished ({', '.join(open_seeds)}): they are left out"
        if "pooled" not in self.tables:
            yield (
                f"{self.folder.root} has no {self.folder.table('pooled').name}, which holds the verdicts over all "
                "seeds: run the study into this folder again to finish it"
            )

    def table(self, name: str) -> pl.DataFrame:
        """A table with its types, one of `tables`.

        Raises:
            DataError: there is none of that name, or it is not a table of this version.
        """
        if name not in self.tables:
            beside = f"; each of its seeds has tables of its own: run.seeds[{min(self.seeds)}]" if self.seeds else ""
            raise DataError(f"{self.folder.root} has no table {name!r}, but {', '.join(self.tables) or 'none'}{beside}")
        return self.folder.read_table(name)

    @cached_property
    def verdicts(self) -> Sequence[AnyVerdict]:
        """The verdicts with the figures that they rest on: claims first, then the controls of the tests.

        Of several seeds they are about the recipe: rows of the table `pooled` that vote.
        """
        if not self.seeds:
            return claim_verdicts(reported(self._results))
        rows = rows_of(self.table("pooled"), PooledRow) if "pooled" in self.tables else []
        return [row for row in rows if row.votes]

    @cached_property
    def _results(self) -> dict[str, pl.DataFrame]:
        return read_results(self.folder)

    @cached_property
    def drawn(self) -> Mapping[str, Figure]:
        """Name -> figure of the report, with its caption, description and data; of several seeds of the comparison."""
        if len(self.seeds) > 1:
            together = compared([run.folder for run in self.seeds.values()])
            figures = all_figures(together.forests, together.sections)
        elif self.seeds:
            figures = list(next(iter(self.seeds.values())).drawn.values())
        else:
            figures = all_figures(forests_of(self._results, self.manifest), sections(self._results))
        return {figure.name: figure for figure in figures}

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures that the report draws, in its order."""
        return tuple(self.drawn)

    def figure(self, name: str) -> alt.ConcatChart:
        """One of `figures` as an Altair chart.

        Raises:
            DataError: there is none of that name.
        """
        if name not in self.drawn:
            raise DataError(f"{self.folder.root} has no figure {name!r}, but {', '.join(self.drawn) or 'none'}")
        return self.drawn[name].chart

    @cached_property
    def checks(self) -> Sequence[tuple[bool, str]]:
        """Whether each test did on its controls what it must, and a line that says so; of several seeds none."""
        return [] if self.seeds else list(check_lines(reported(self._results), self._results["models"]))

    @property
    def headline(self) -> str:
        """Which claims are selective in which test, in one sentence."""
        if not any(verdict.group == CLAIM for verdict in self.verdicts):
            return "There are no verdicts: a part of this run is missing." if self.problems else "No claim was tested."
        return headline(self.verdicts)

    @property
    def title(self) -> str:
        """The study's name, its seeds where there are several, and the folder."""
        seeds = f", {len(self.seeds)} seeds" if self.seeds else ""
        return f"{self.manifest.name}{seeds} ({self.folder.root})"

    def by_claim(self) -> dict[str, dict[str, list[AnyVerdict]]]:
        """Hypothesis or control -> test -> its verdicts, one a construct."""
        rows: dict[str, dict[str, list[AnyVerdict]]] = {}
        for verdict in self.verdicts:
            group = "" if verdict.group in (CLAIM, verdict.hypothesis) else f" ({verdict.group})"
            name = f"{verdict.hypothesis}{group}"
            rows.setdefault(name, {}).setdefault(verdict.test, []).append(verdict)
        return rows

    @property
    def tests(self) -> list[str]:
        """The tests that a claim was put to."""
        return [test for test in TESTS if any(verdict.test == test for verdict in self.verdicts)]

    def __repr__(self) -> str:
        """The verdicts in a few lines."""
        lines = [f"safespan run: {self.title}", self.headline]
        for name, by_test in self.by_claim().items():
            of_tests = (f"{test} {'; '.join(map(_short, verdicts))}" for test, verdicts in by_test.items())
            lines.append(f"  {name}: {' | '.join(of_tests)}")
        return "\n".join([*lines, *(f"warning: {text}" for text in self._warnings())])

    def _warnings(self) -> list[str]:
        return [*self.problems, *(f"check of the {text}" for well, text in self.checks if not well)]

    def _repr_html_(self) -> str:
        tests = self.tests
        head = "".join(f"<th>{escape(text)}</th>" for text in ("claim", *(f"{test} test" for test in tests)))
        rows = "".join(
            f"<tr><th>{escape(name)}</th>{''.join(f'<td>{_cell(by_test.get(test, []))}</td>' for test in tests)}</tr>"
            for name, by_test in self.by_claim().items()
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""
        warnings = "".join(f"<p>Warning: {escape(text)}</p>" for text in self._warnings())
        return f"<p><b>{escape(self.title)}</b><br>{escape(self.headline)}</p>{table}{warnings}"


def _short(verdict: AnyVerdict) -> str:
    return f"{verdict.construct} {verdict_text(verdict)}"


def _cell(verdicts: Sequence[AnyVerdict]) -> str:
    lines = (
        f"{_short(verdict)}{f' ({verdict.statistic} {estimate_text(verdict)})' if verdict.statistic else ''}"
        for verdict in verdicts
    )
    return "<br>".join(map(escape, lines))
