"""Commands that run a whole study."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from safespan.cli.app import Address, Engine, NoCache, RunOut, Settings, app
from safespan.cli.output import CommandOutput, Json, Quiet, emit, progress
from safespan.settings.names import ENGINES, check_choices


@app.command()
def demo(
    out: RunOut = None,
    settings: Settings = None,
    engine: Engine = None,
    address: Address = None,
    no_cache: NoCache = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Grow the embedded model family and run the paper's four experiments on it: about four minutes on two cores."""
    all_settings = _settings(settings, engine, address, no_cache)
    from safespan.settings.study import bundled_study

    _run(bundled_study("organism"), out or Path("runs/demo"), all_settings, quiet, as_json)


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="study file; studies/ holds examples")],
    out: RunOut = None,
    settings: Settings = None,
    engine: Engine = None,
    address: Address = None,
    no_cache: NoCache = False,
    quiet: Quiet = False,
    as_json: Json = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would be done; no network, nothing written")
    ] = False,
) -> None:
    """Run a study, stage by stage, into a run folder. Finished stages and points are not done again."""
    out = out or Path("runs") / study.stem
    all_settings = _settings(settings, engine, address, no_cache)
    if not dry_run:
        return _run(study, out, all_settings, quiet, as_json)
    from safespan.settings.study import load_study

    config = load_study(study, all_settings)
    from safespan.study.plan import plan

    lines = plan(config, out)
    emit(CommandOutput({"plan": lines}, lines, []), quiet, as_json)


@app.command()
def rerun(
    manifest: Annotated[Path, typer.Argument(help="manifest.json of a run")],
    out: Annotated[
        Path | None, typer.Option(help="run folder", show_default="the run's own folder with -again behind its name")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a study again from its manifest, and warn of versions, hardware, inputs and tables that differ."""
    from safespan.study.rerun import rerun

    folder = manifest.absolute().parent
    out = out or folder.with_name(f"{folder.name}-again")
    with progress(quiet):
        report = rerun(manifest, out, shlex.join(["safespan", *sys.argv[1:]]))
    _emit_summary(out, report, quiet, as_json)


def _settings(settings: list[str] | None, engine: str | None, address: str | None, no_cache: bool) -> list[str]:
    """The settings, with those of the options that are fields of the study."""
    check_choices("engine", [engine or "local"], ENGINES)
    options = {"engine": engine, "address": address, "cache": "false" if no_cache else None}
    return [*(settings or []), *(f"execution.{field}={value}" for field, value in options.items() if value)]


def _run(study: Path, out: Path, settings: list[str], quiet: bool, as_json: bool) -> None:
    from safespan.settings.study import load_study

    config = load_study(study, settings)  # a wrong value is reported before the model libraries are imported
    from safespan.study.run import run_study

    with progress(quiet):
        report = run_study(config, out, shlex.join(["safespan", *sys.argv[1:]]))
    _emit_summary(out, report, quiet, as_json)


def _emit_summary(out: Path, report: Path, quiet: bool, as_json: bool) -> None:
    from safespan.report.summary import summary, summary_tables
    from safespan.results.run_folder import RunFolder

    run = RunFolder(out)
    emit(CommandOutput(summary(run), [*summary_tables(run), f"report: {report}"], [report]), quiet, as_json)
