"""Commands that analyse checkpoints, without an evaluation."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safespan.cli.app import Address, Engine, NoCache, app, pairs
from safespan.cli.output import CommandOutput, Json, Quiet, emit, progress
from safespan.errors import ConfigError
from safespan.settings.names import (
    ENGINES,
    GRANULARITIES,
    METHODS,
    SIDES,
    check_choices,
    check_shares,
    hypothesis_names,
)

if TYPE_CHECKING:
    from safespan.linalg.parallel import ParallelMap
    from safespan.settings.analysis import ProjectionGrid
    from safespan.subspaces import Decompose

Model = Annotated[str, typer.Option(help="a model folder, hub id[@revision], BASE+ADAPTER or .gguf file")]
Fractions = Annotated[
    list[float] | None,
    typer.Option("--fraction", help="f in (0, 1], repeatable", show_default="0.01 0.25 0.5 0.75 0.99"),
]
Energies = Annotated[list[float] | None, typer.Option("--energy", help="η in (0, 1], repeatable", show_default="all")]
SideOption = Annotated[str, typer.Option(help="project outputs (as in the paper), inputs, or both")]
Seed = Annotated[int, typer.Option(min=0, help="seed of the random subspaces")]
Table = Annotated[Path, typer.Option(help="CSV file to write")]


@app.command()
def sweep(
    base: Model,
    aligned: Model,
    finetuned: Annotated[list[str], typer.Option(help="NAME=MODEL of a fine-tune of the aligned model; repeatable")],
    out: Table,
    safe: Annotated[str | None, typer.Option(help="safety-tuned model; adds the safety subspace")] = None,
    subspace: Annotated[
        list[str] | None, typer.Option(help="alignment, safety, random-k or random; repeatable", show_default="all")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="parallel, orthogonal or opposite; repeatable", show_default="parallel orthogonal"),
    ] = None,
    fraction: Fractions = None,
    side: SideOption = "output",
    seed: Seed = 0,
    engine: Engine = None,
    address: Address = None,
    no_cache: NoCache = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Energies and cosines of the whole projection grid, with no evaluation."""
    _check_grid(subspace or [], method or [], fraction or [], side)
    members = pairs(finetuned, "--finetuned")
    check_choices("engine", [engine or "local"], ENGINES)
    from safespan import projection
    from safespan.checkpoints import open_checkpoint
    from safespan.progress import step
    from safespan.results.table_files import write_table
    from safespan.results.tables import EnergyRow

    family = projection.Family(
        open_checkpoint(base),
        open_checkpoint(aligned),
        {name: open_checkpoint(folder) for name, folder in members.items()},
        open_checkpoint(safe) if safe else None,
    )
    grid = _grid(subspace, method, fraction, side)
    with progress(quiet), step("sweep"):
        rows, _ = projection.sweep(family, grid, seed, _decompose(no_cache), _mapper(engine, address))
    write_table(out, EnergyRow, rows)
    emit(CommandOutput({"points": len(rows), "written": out}, [f"{len(rows)} points: {out}"], [out]), quiet, as_json)


@app.command()
def project(
    base: Model,
    aligned: Model,
    finetuned: Annotated[str, typer.Option(help="the fine-tune, named in the same ways")],
    out: Annotated[Path, typer.Option(help="folder to write the projected checkpoint to")],
    subspace: Annotated[str, typer.Option(help="alignment, safety, random-k or random")] = "alignment",
    method: Annotated[str, typer.Option(help="parallel, orthogonal or opposite")] = "orthogonal",
    fraction: Annotated[float, typer.Option(help="f in (0, 1]")] = 0.25,
    safe: Annotated[str | None, typer.Option(help="safety-tuned model, needed by the safety subspace")] = None,
    side: SideOption = "output",
    seed: Seed = 0,
    no_cache: NoCache = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write one projected checkpoint that transformers loads, with tokenizer and provenance."""
    _check_grid([subspace], [method], [fraction], side)
    from safespan.checkpoints import open_checkpoint
    from safespan.progress import step
    from safespan.projection import Family, write_projected

    members = {"finetuned": open_checkpoint(finetuned)}
    family = Family(open_checkpoint(base), open_checkpoint(aligned), members, open_checkpoint(safe) if safe else None)
    if out.exists() and not (out / "safespan.json").exists():
        raise ConfigError(f"{out} exists and is no projected checkpoint: give a new folder")
    grid = _grid([subspace], [method], [fraction], side)
    with progress(quiet), step("projection"):
        error = write_projected(family, grid, seed, out, _decompose(no_cache))
    lines = [f"checkpoint: {out} (rounding error {error:.2g} of the update)"]
    emit(CommandOutput({"rounding_error": error, "written": out}, lines, [out]), quiet, as_json)


@app.command()
def overlap(
    aligned: Model,
    update: Annotated[list[str], typer.Option(help="NAME=MODEL of a fine-tune of the aligned model; repeatable")],
    out: Table,
    base: Annotated[str | None, typer.Option(help="base model; adds the alignment update")] = None,
    granularity: Annotated[str, typer.Option(help="tensor or layer")] = "tensor",
    energy: Energies = None,
    engine: Engine = None,
    address: Address = None,
    no_cache: NoCache = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Mode subspace overlap of every pair of updates, at each share of energy."""
    check_choices("granularity", [granularity], GRANULARITIES)
    check_choices("engine", [engine or "local"], ENGINES)
    check_shares("energy fraction", energy or [])
    members = pairs(update, "--update")
    from safespan.checkpoints import open_checkpoint
    from safespan.overlap.updates import update_overlap
    from safespan.progress import step
    from safespan.results.table_files import write_table
    from safespan.results.tables import OverlapRow
    from safespan.settings.analysis import UPDATE_ENERGIES

    start = open_checkpoint(aligned)
    updates = {"alignment": (open_checkpoint(base), start)} if base else {}
    updates |= {name: (start, open_checkpoint(folder)) for name, folder in members.items()}
    energies = energy or UPDATE_ENERGIES
    with progress(quiet), step("overlap"):
        rows, _ = update_overlap(updates, granularity, energies, _decompose(no_cache), _mapper(engine, address))
    write_table(out, OverlapRow, rows)
    emit(CommandOutput({"rows": len(rows), "written": out}, [f"{len(rows)} rows: {out}"], [out]), quiet, as_json)


@app.command()
def activations(
    model: Model,
    prompts: Annotated[list[str], typer.Option(help="useful=FILE and harmful=FILE: .txt, .jsonl or .csv")],
    out: Table,
    center: Annotated[bool, typer.Option(help="subtract each class's mean activation first")] = False,
    layers: Annotated[
        str | None, typer.Option(help="range of depth such as 0.65:0.90", show_default="all layers")
    ] = None,
    energy: Energies = None,
    batch_size: Annotated[int, typer.Option(min=1, help="prompts a forward pass")] = 32,
    permutations: Annotated[int, typer.Option(min=0, help="of the class labels, for p-values; 0: none")] = 200,
    bootstraps: Annotated[int, typer.Option(min=0, help="resamples of the prompts, for intervals; 0: none")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="of permutations, resamples and cross-validation")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Overlap of the activation subspaces of two classes of prompts, layer by layer.

    How well one direction tells the classes apart goes into a second table, NAME-separation.csv beside NAME.csv.
    """
    check_shares("energy fraction", energy or [])
    files = pairs(prompts, "--prompts")
    if set(files) != {"useful", "harmful"}:
        raise ConfigError(f"--prompts: expected useful=FILE and harmful=FILE, given {', '.join(files)}")
    from safespan.activations import Resampling, capture_classes, overlap_by_layer, separation_by_layer
    from safespan.checkpoints import open_checkpoint
    from safespan.data.sources import read_prompts
    from safespan.progress import step
    from safespan.results.table_files import write_table
    from safespan.results.tables import ActivationRow, SeparationRow
    from safespan.settings.analysis import ACTIVATION_ENERGIES
    from safespan.settings.data import PromptSource

    useful, harmful = (read_prompts(PromptSource.model_validate(str(files[name]))) for name in ("useful", "harmful"))
    texts = ([prompt.prompt for prompt in useful], [prompt.prompt for prompt in harmful])
    resampling = Resampling(permutations, bootstraps, seed)
    with progress(quiet):
        with step("activations"):
            classes = capture_classes(open_checkpoint(model), texts, layers, batch_size)
        with step("overlap"):
            rows = overlap_by_layer(*classes, energy or ACTIVATION_ENERGIES, (center,), resampling=resampling)
        with step("separation"):
            separations = separation_by_layer(*classes, seed)
    second = out.with_name(f"{out.stem}-separation{out.suffix}")
    name = Path(model).name
    write_table(out, ActivationRow, [ActivationRow(model=name, **vars(row)) for row in rows])
    write_table(second, SeparationRow, [SeparationRow(model=name, **vars(row)) for row in separations])
    values = {"rows": len(rows), "written": out, "separation_rows": len(separations), "separation_written": second}
    lines = [f"{len(rows)} rows: {out}", f"{len(separations)} rows: {second}"]
    emit(CommandOutput(values, lines, [out, second]), quiet, as_json)


def _check_grid(subspaces: list[str], methods: list[str], fractions: list[float], side: str) -> None:
    check_choices("subspace", subspaces, hypothesis_names())
    check_choices("method", methods, METHODS)
    check_choices("side", [side], SIDES)
    check_shares("fraction", fractions)


def _grid(
    subspaces: list[str] | None, methods: list[str] | None, fractions: list[float] | None, side: str
) -> "ProjectionGrid":
    from safespan.settings.analysis import ProjectionGrid

    fields = {"subspaces": subspaces, "methods": methods, "fractions": fractions, "side": side}
    return ProjectionGrid.model_validate({name: value for name, value in fields.items() if value})


def _decompose(no_cache: bool) -> "Decompose":
    from safespan.subspaces import SpectrumCache, decompose

    return decompose if no_cache else SpectrumCache().decompose


def _mapper(engine: str | None, address: str | None) -> "ParallelMap":
    from safespan.execution import execution
    from safespan.settings.execution import ExecutionConfig

    return execution(ExecutionConfig(engine=engine or "local", address=address)).map
