"""Commands that write pages from runs that are done."""

from pathlib import Path
from typing import Annotated

import typer

from safespan.cli.app import app


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(help="run folder of a study")],
    no_generations: Annotated[
        bool, typer.Option("--no-generations", help="leave out what the models said, which can be harmful to read")
    ] = False,
) -> None:
    """Write a run's report again from its tables."""
    from safespan.report import write_report
    from safespan.results.run_folder import RunFolder

    typer.echo(f"report: {write_report(RunFolder(run_dir), not no_generations)}")


@app.command()
def compare(
    run_dirs: Annotated[list[Path], typer.Argument(help="run folders of two or more studies")],
    out: Annotated[Path, typer.Option(help="folder for the page and its figures")] = Path("runs/comparison"),
) -> None:
    """Put several runs side by side on one page: other models, other seeds."""
    from safespan.report import write_comparison
    from safespan.results.run_folder import RunFolder

    typer.echo(f"comparison: {write_comparison([RunFolder(folder) for folder in run_dirs], out)}")
