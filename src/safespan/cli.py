"""The command line: parse, call one function, print. Heavy imports live inside the commands."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safespan.errors import ConfigError, SafespanError

if TYPE_CHECKING:
    from safespan.projection import ProjectionGrid

app = typer.Typer(
    help="Does a safety subspace exist in this language model? Projection and overlap experiments, measured.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Folder = Annotated[Path, typer.Option(help="a Hugging Face model folder with safetensors weights")]
Fractions = Annotated[
    list[float] | None, typer.Option("--fraction", help="f in (0, 1], repeatable [default: 0.01 0.25 0.5 0.75 0.99]")
]
Energies = Annotated[list[float] | None, typer.Option("--energy", help="η in (0, 1], repeatable [default: all]")]
SideOption = Annotated[str, typer.Option(help="project outputs (as in the paper), inputs, or both")]
Seed = Annotated[int, typer.Option(min=0, help="seed of the random subspaces")]
Table = Annotated[Path, typer.Option(help="CSV file to write")]
RunOut = Annotated[Path | None, typer.Option(help="run folder [default: runs/ and the study's file name]")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="change a field of the study: FIELD=VALUE, such as seed=1; repeatable")
]


@app.command()
def demo(out: RunOut = None, settings: Settings = None) -> None:
    """Grow the embedded model family and run the paper's four experiments on it: about four minutes on two cores."""
    from safespan.config import bundled_study

    _run(bundled_study("organism"), out or Path("runs/demo"), settings)


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="study file; studies/ holds examples")],
    out: RunOut = None,
    settings: Settings = None,
) -> None:
    """Run a study, stage by stage, into a run folder. Finished stages and points are not done again."""
    _run(study, out or Path("runs") / study.stem, settings)


def _run(study: Path, out: Path, settings: list[str] | None) -> None:
    from safespan.config import load_study
    from safespan.study import run_study

    report_path = run_study(load_study(study, settings or []), out, shlex.join(["safespan", *sys.argv[1:]]))
    typer.echo(f"report: {report_path}")


@app.command()
def sweep(
    base: Folder,
    aligned: Folder,
    finetuned: Annotated[list[str], typer.Option(help="NAME=FOLDER of a fine-tune of the aligned model; repeatable")],
    out: Table,
    safe: Annotated[Path | None, typer.Option(help="safety-tuned model; adds the safety subspace")] = None,
    subspace: Annotated[
        list[str] | None, typer.Option(help="alignment, safety, random-k or random; repeatable [default: all]")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="parallel, orthogonal or opposite; repeatable [default: parallel orthogonal]"),
    ] = None,
    fraction: Fractions = None,
    side: SideOption = "output",
    seed: Seed = 0,
) -> None:
    """Energies and cosines of the whole projection grid, with no evaluation."""
    from safespan import projection
    from safespan.checkpoints import Checkpoint
    from safespan.results import ENERGIES, write_table

    family = projection.Family(
        Checkpoint(base),
        Checkpoint(aligned),
        {name: Checkpoint(folder) for name, folder in _named(finetuned, "--finetuned").items()},
        Checkpoint(safe) if safe else None,
    )
    rows, _ = projection.sweep(family, _grid(subspace, method, fraction, side), seed)
    write_table(out, rows, ENERGIES)
    typer.echo(f"{len(rows)} points: {out}")


@app.command()
def project(
    base: Folder,
    aligned: Folder,
    finetuned: Annotated[Path, typer.Option(help="model folder of the fine-tune")],
    out: Annotated[Path, typer.Option(help="folder to write the projected checkpoint to")],
    subspace: Annotated[str, typer.Option(help="alignment, safety, random-k or random")] = "alignment",
    method: Annotated[str, typer.Option(help="parallel, orthogonal or opposite")] = "orthogonal",
    fraction: Annotated[float, typer.Option(help="f in (0, 1]")] = 0.25,
    safe: Annotated[Path | None, typer.Option(help="safety-tuned model, needed by the safety subspace")] = None,
    side: SideOption = "output",
    seed: Seed = 0,
) -> None:
    """Write one projected checkpoint that transformers loads, with tokenizer and provenance."""
    from safespan.checkpoints import Checkpoint
    from safespan.projection import Family, write_projected

    members = {"finetuned": Checkpoint(finetuned)}
    family = Family(Checkpoint(base), Checkpoint(aligned), members, Checkpoint(safe) if safe else None)
    if out.exists() and not (out / "safespan.json").exists():
        raise ConfigError(f"{out} exists and is no projected checkpoint: give a new folder")
    error = write_projected(family, _grid([subspace], [method], [fraction], side), seed, out)
    typer.echo(f"checkpoint: {out} (rounding error {error:.2g} of the update)")


@app.command()
def overlap(
    aligned: Folder,
    update: Annotated[list[str], typer.Option(help="NAME=FOLDER of a fine-tune of the aligned model; repeatable")],
    out: Table,
    base: Annotated[Path | None, typer.Option(help="base model; adds the alignment update")] = None,
    granularity: Annotated[str, typer.Option(help="tensor or layer")] = "tensor",
    energy: Energies = None,
) -> None:
    """Mode subspace overlap of every pair of updates, at each share of energy."""
    from safespan.checkpoints import Checkpoint
    from safespan.overlap import ENERGY_FRACTIONS, update_overlap
    from safespan.results import SCHEMAS, write_table

    start = Checkpoint(aligned)
    updates = {"alignment": (Checkpoint(base), start)} if base else {}
    updates |= {name: (start, Checkpoint(folder)) for name, folder in _named(update, "--update").items()}
    rows = update_overlap(updates, granularity, energy or ENERGY_FRACTIONS)
    write_table(out, rows, SCHEMAS["overlap"])
    typer.echo(f"{len(rows)} rows: {out}")


@app.command()
def activations(
    model: Folder,
    prompts: Annotated[list[str], typer.Option(help="useful=FILE and harmful=FILE: .txt, .jsonl or .csv")],
    out: Table,
    center: Annotated[bool, typer.Option(help="subtract each class's mean activation first")] = False,
    layers: Annotated[str | None, typer.Option(help="range of depth such as 0.65:0.90 [default: all layers]")] = None,
    energy: Energies = None,
    batch_size: Annotated[int, typer.Option(min=1, help="prompts a forward pass")] = 32,
) -> None:
    """Overlap of the activation subspaces of two classes of prompts, layer by layer."""
    from safespan.activations import ENERGY_FRACTIONS, overlap_by_layer
    from safespan.checkpoints import Checkpoint
    from safespan.prompts import read_prompts
    from safespan.results import SCHEMAS, write_table

    files = _named(prompts, "--prompts")
    if set(files) != {"useful", "harmful"}:
        raise ConfigError(f"--prompts: expected useful=FILE and harmful=FILE, given {', '.join(files)}")
    classes = (read_prompts(files["useful"]), read_prompts(files["harmful"]))
    energies = energy or ENERGY_FRACTIONS
    folder = Checkpoint(model).folder
    rows = overlap_by_layer(folder, classes, layers, energies, batch_size, (center,))
    write_table(out, [{"model": folder.name, **row} for row in rows], SCHEMAS["activations"])
    typer.echo(f"{len(rows)} rows: {out}")


@app.command()
def report(run_dir: Annotated[Path, typer.Argument(help="run folder of a study")]) -> None:
    """Write a run's report again from its tables."""
    from safespan.report import write_report
    from safespan.results import RunFolder

    typer.echo(f"report: {write_report(RunFolder(run_dir))}")


def _named(pairs: list[str], option: str) -> dict[str, Path]:
    """Split NAME=FOLDER pairs; names are unique."""
    named: dict[str, Path] = {}
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if not name or not equals or not folder:
            raise ConfigError(f"{option} {pair!r}: expected NAME=PATH, such as useful=models/useful")
        if name in named:
            raise ConfigError(f"{option}: the name {name!r} is given twice")
        named[name] = Path(folder)
    return named


def _grid(subspaces: Any, methods: Any, fractions: Any, side: str) -> "ProjectionGrid":
    from safespan.projection import ProjectionGrid

    if side not in ("output", "input", "both"):
        raise ConfigError(f"--side {side!r}: expected output, input or both")
    given = {"subspaces": subspaces, "methods": methods, "fractions": fractions, "side": side}
    return ProjectionGrid(**{name: value for name, value in given.items() if value})


def main() -> None:
    """Entry point: bad input ends in one line on standard error and exit code 2."""
    try:
        app()
    except SafespanError as error:
        typer.echo(f"safespan: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
