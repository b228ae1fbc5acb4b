"""The command that writes what a paper, a model card and the hub take from a run."""

from pathlib import Path
from typing import Annotated

import typer

from safespan.cli.app import command
from safespan.cli.output import CommandOutput


@command()
def export(
    run_dir: Annotated[Path, typer.Argument(help="run folder of a study, or of its seeds")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="folder to write; an earlier export is replaced, any other folder is refused",
            show_default="RUN_DIR/export",
        ),
    ] = None,
) -> CommandOutput:
    """Write a run for a paper, a model card and the hub, without prompts, responses and secrets.

    LaTeX tables, PDF figures of a column's width, MODEL_CARD.md, and hub/, a data set of the results for `hf upload`.
    """
    from safespan.report.export import write_export
    from safespan.report.loaded import load_run

    folder = write_export(load_run(run_dir), out or run_dir / "export")
    written = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    parts = [
        f"tables: {folder / 'tables'}",
        f"figures: {folder / 'figures'} ({sum(name.startswith('figures/') for name in written)})",
        f"model card: {folder / 'MODEL_CARD.md'}",
        f"for `hf upload`: {folder / 'hub'}",
    ]
    return CommandOutput({"written": folder, "files": written}, parts, [folder])
