"""Commands that analyse checkpoints, without an evaluation."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safespan.cli.app import (
    Aligned,
    Model,
    PromptFields,
    command,
    file_option,
    model_option,
    model_pairs,
    prompt_files,
)
from safespan.cli.output import CommandOutput
from safespan.progress import step
from safespan.settings import ExecutionConfig, ProjectionGrid, PromptSource
from safespan.settings.analysis import ACTIVATION_ENERGIES, UPDATE_ENERGIES
from safespan.settings.data import FILES
from safespan.settings.names import (
    GRANULARITIES,
    METHODS,
    SIDES,
    VOCABULARIES,
    Vocabulary,
    check_choices,
    check_once,
    check_shares,
    grid_subspaces,
)

if TYPE_CHECKING:
    import polars as pl

    from safespan.linalg.parallel import ParallelMap
    from safespan.projection import Family
    from safespan.report.charts import Figure
    from safespan.report.findings import Findings
    from safespan.subspaces import Decompose

Fractions = Annotated[
    list[float] | None,
    typer.Option(
        "--fraction",
        help="f in (0, 1], the share of the directions; repeatable",
        show_default="0.01 0.25 0.5 0.75 0.99",
    ),
]
Energies = Annotated[
    list[float] | None,
    typer.Option(
        "--energy",
        help="η in (0, 1], the share of energy in each subspace; repeatable. Energy is the squared size of an update",
        show_default="all",
    ),
]
SideOption = Annotated[str, typer.Option(help="side of each matrix: output (as in arXiv 2505.14185), input or both")]
VocabularyOption = Annotated[
    str, typer.Option(help="if numbers of tokens differ: shared (compare the rows that all models have) or refuse")
]
Seed = Annotated[int, typer.Option(min=0, help="seed of the random subspaces")]
Table = Annotated[Path, file_option("CSV file to write")]


@command()
def sweep(
    base: Annotated[str, model_option("the model before alignment")],
    aligned: Aligned,
    finetuned: Annotated[list[str], typer.Option(help="NAME=MODEL of a fine-tune of the aligned model; repeatable")],
    out: Table,
    execution: ExecutionConfig,
    safe: Annotated[str | None, model_option("safety-tuned model; adds the safety subspace")] = None,
    subspace: Annotated[
        list[str] | None,
        typer.Option(
            help="alignment, safety, random-k, random, harmful-update or planted; repeatable",
            show_default="those of the first four that have their models",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="parallel (the part inside the subspace), orthogonal (the part outside) or "
            "opposite (minus the part inside); repeatable",
            show_default="parallel orthogonal",
        ),
    ] = None,
    fraction: Fractions = None,
    side: SideOption = "output",
    seed: Seed = 0,
    vocabulary: VocabularyOption = "shared",
) -> CommandOutput:
    """Measure how much of each update lies in each subspace, with no evaluation; a chart is drawn beside the CSV.

    The table has the energy (squared size) and the cosine of each point of the projection grid.
    """
    grid = _grid(subspace, method, fraction, side)
    members = model_pairs(finetuned, "--finetuned")
    from safespan import projection
    from safespan.results.tables import EnergyRow

    family, mapper = open_family(base, aligned, safe, members, vocabulary), _mapper(execution)
    _check_roles(family, grid)
    warn_of_remarks(family, family.subspaces(grid.subspaces))
    with step("sweep"):
        rows, _ = projection.sweep(family, grid, seed, decomposition(execution.cache), mapper)
    table, written = _write("points", EnergyRow, rows, out)
    from safespan.report import charts, findings

    return _found(findings.sweep_findings(table), [written.drawn(charts.energy_inside(findings.energy_inside(table)))])


@command()
def overlap(
    aligned: Aligned,
    update: Annotated[list[str], typer.Option(help="NAME=MODEL of a fine-tune of the aligned model; repeatable")],
    out: Table,
    execution: ExecutionConfig,
    base: Annotated[str | None, model_option("the model before alignment; adds the alignment update")] = None,
    granularity: Annotated[str, typer.Option(help="tensor or layer")] = "tensor",
    energy: Energies = None,
    vocabulary: VocabularyOption = "shared",
) -> CommandOutput:
    """Measure the subspace overlap of every pair of updates, at each share of energy; a chart is drawn beside the CSV.

    Energy is the squared size of an update.
    """
    check_choices("granularity", [granularity], GRANULARITIES)
    check_shares("--energy", energy or [])
    check_once("--energy", energy or [])
    members = model_pairs(update, "--update")
    shared = _vocabulary(vocabulary)
    from safespan.checkpoints import open_checkpoint, pair_up
    from safespan.checkpoints.roles import check_roles
    from safespan.overlap.updates import update_overlap
    from safespan.results.tables import OverlapRow

    start, first = open_checkpoint(aligned), open_checkpoint(base) if base else None
    ends = {name: open_checkpoint(folder) for name, folder in members.items()}
    pair_up(start, *([first] if first else []), *ends.values(), vocabulary=shared)
    updates = {"alignment": (first, start)} if first else {}
    updates |= {name: (start, end) for name, end in ends.items()}
    energies, mapper = energy or UPDATE_ENERGIES, _mapper(execution)
    with step("roles"):
        check_roles(first, start, ends, {"base"})
    with step("overlap"):
        rows, _ = update_overlap(updates, granularity, energies, decomposition(execution.cache), mapper)
    table, written = _write("rows", OverlapRow, rows, out)
    from safespan.report import charts, findings

    return _found(findings.overlap_findings(table), [written.drawn(charts.overlap_curves(table))])


@command()
def activations(
    model: Model,
    prompts: Annotated[list[str], typer.Option(help=f"useful=FILE and harmful=FILE, each {FILES}")],
    out: Table,
    prompt_field: PromptFields = None,
    center: Annotated[bool, typer.Option(help="subtract each class's mean activation first")] = False,
    layers: Annotated[
        str | None, typer.Option(help="range of depth such as 0.65:0.90", show_default="all layers")
    ] = None,
    energy: Energies = None,
    batch_size: Annotated[int, typer.Option(min=1, help="prompts in one forward pass")] = 32,
    permutations: Annotated[int, typer.Option(min=0, help="permutations of the labels, for p-values; 0: none")] = 200,
    bootstraps: Annotated[int, typer.Option(min=0, help="resamples of the prompts, for intervals; 0: none")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="seed of permutations, resamples and cross-validation")] = 0,
) -> CommandOutput:
    """Measure the overlap of the activation subspaces of two classes of prompts, layer by layer.

    How well one direction tells the classes apart goes into a second table, NAME-separation.csv beside NAME.csv.
    A chart is drawn beside each of them.
    """
    check_shares("--energy", energy or [])
    check_once("--energy", energy or [])
    files = prompt_files(prompts, prompt_field)
    useful, harmful = read_texts(files).values()
    from safespan.activations import Resampling, capture_classes, overlap_by_layer, separation_by_layer
    from safespan.checkpoints import open_checkpoint
    from safespan.results.tables import ActivationRow, SeparationRow

    resampling = Resampling(permutations, bootstraps, seed)
    with step("activations"):
        classes = capture_classes(open_checkpoint(model), (useful, harmful), layers, batch_size)
    with step("overlap"):
        rows = overlap_by_layer(*classes, energy or ACTIVATION_ENERGIES, (center,), resampling=resampling)
    with step("separation"):
        separations = separation_by_layer(*classes, seed)
    name, second = Path(model).name, out.with_name(f"{out.stem}-separation{out.suffix}")
    overlaps, first = _write("rows", ActivationRow, [ActivationRow(model=name, **vars(row)) for row in rows], out)
    aurocs = [SeparationRow(model=name, **vars(row)) for row in separations]
    apart, other = _write("separation_rows", SeparationRow, aurocs, second, "separation_")
    from safespan.report import charts, findings

    drawn = [first.drawn(charts.activation_overlap(overlaps)), other.drawn(charts.separation(apart))]
    return _found(findings.activation_findings(overlaps, apart), drawn)


def read_texts(files: Mapping[str, object]) -> dict[str, list[str]]:
    """The prompts of both classes, useful ones first; warns of those in both."""
    from safespan.data.classes import read_classes, shared_by_classes

    classes = read_classes(*(PromptSource.model_validate(files[name]) for name in ("useful", "harmful")))
    for remark in shared_by_classes(classes):
        logging.getLogger(__name__).warning(remark)
    return {name: [prompt.prompt for prompt in prompts] for name, prompts in classes.items()}


def _grid(
    subspaces: list[str] | None, methods: list[str] | None, fractions: list[float] | None, side: str
) -> ProjectionGrid:
    check_choices("subspace", subspaces or [], grid_subspaces())
    check_choices("method", methods or [], METHODS)
    check_choices("side", [side], SIDES)
    check_shares("--fraction", fractions or [])
    for option, values in (("--subspace", subspaces), ("--method", methods), ("--fraction", fractions)):
        check_once(option, values or [])
    fields = {"subspaces": subspaces, "methods": methods, "fractions": fractions, "side": side}
    return ProjectionGrid.model_validate({name: value for name, value in fields.items() if value})


def open_family(
    base: str | None, aligned: str, safe: str | None, finetuned: dict[str, str], vocabulary: str
) -> "Family":
    """Open the checkpoints of a family, and see to it that they can be compared."""
    from safespan.checkpoints import open_checkpoint, pair_up
    from safespan.projection import Family

    members = {name: open_checkpoint(model) for name, model in finetuned.items()}
    start = open_checkpoint(aligned)
    first, safer = (open_checkpoint(model) if model else None for model in (base, safe))
    others = [one for one in (first, *members.values(), safer) if one]
    pair_up(start, *others, vocabulary=_vocabulary(vocabulary))
    return Family(first, start, members, safer)


def warn_of_remarks(family: "Family", claims: Iterable[str]) -> None:
    """Warn of how claims depart from their papers on these models."""
    from safespan.subspaces import find_hypothesis

    for name in claims:
        if remark := family.remark_on(find_hypothesis(name)):
            logging.getLogger(__name__).warning(f"{name}: {remark}")


def _vocabulary(given: str) -> Vocabulary:
    check_choices("vocabulary", [given], VOCABULARIES)
    return "refuse" if given == "refuse" else "shared"


def _check_roles(family: "Family", grid: ProjectionGrid) -> None:
    """Warn of models in the wrong roles, and refuse those that are aligned itself where their difference is needed."""
    from safespan.checkpoints.roles import check_roles
    from safespan.subspaces import find_hypothesis

    ends = {**family.finetuned, **({"safe": family.safe} if family.safe else {})}
    needed = {need for name in family.subspaces(grid.subspaces) for need in find_hypothesis(name).needs}
    with step("roles"):
        check_roles(family.base, family.aligned, ends, needed)


@dataclass(frozen=True)
class _Written:
    """A table that is written, and the chart beside it.

    Attributes:
        values: for `--json`.
        chart: its file; None where there is nothing to draw.
    """

    path: Path
    rows: int
    unit: str
    values: dict[str, object]
    prefix: str
    chart: Path | None = None

    def drawn(self, figure: "Figure | None") -> "_Written":
        """Draw the chart: NAME.svg beside NAME.csv. An earlier one does not stay beside a table without a chart."""
        from safespan.report.export.figures import write_figure

        named = self.path.stem if self.path.suffix.lower() == ".csv" else self.path.name
        chart = self.path.with_name(f"{named}.svg")
        if figure is None:
            chart.unlink(missing_ok=True)
            return self
        write_figure(chart, figure)
        return replace(self, values={**self.values, f"{self.prefix}chart": chart}, chart=chart)


def _write(
    unit: str, kind: type[Any], rows: Sequence[Any], out: Path, prefix: str = ""
) -> tuple["pl.DataFrame", _Written]:
    """Write a table; `prefix` is of its names for `--json`."""
    from safespan.results import write_table

    table = write_table(out, kind, rows)
    return table, _Written(out, len(rows), unit, {unit: len(rows), f"{prefix}written": out}, prefix)


def _found(findings: "Findings", tables: Sequence[_Written]) -> CommandOutput:
    """What was found, and where the tables and their charts are."""
    values = {name: value for table in tables for name, value in table.values.items()}
    files = [
        f"{one.rows} {one.unit.replace('_', ' ')}: {one.path}" + (f", chart: {one.chart}" if one.chart else "")
        for one in tables
    ]
    return CommandOutput({**values, "findings": findings.rows}, [*findings.lines, *files], [one.path for one in tables])


def decomposition(cache: bool) -> "Decompose":
    """How updates are decomposed: with the cache on disk, or without."""
    from safespan.subspaces import SpectrumCache, decompose

    return SpectrumCache().decompose if cache else decompose


def _mapper(config: ExecutionConfig) -> "ParallelMap":
    from safespan.execution import execution

    return execution(config).map
