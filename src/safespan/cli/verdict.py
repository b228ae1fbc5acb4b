"""Commands that list the claims about where safety lies, and test one."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safespan.cli.app import Address, Engine, NoCache, Settings, app, pairs
from safespan.cli.output import CommandOutput, Json, Quiet, emit, progress
from safespan.errors import ConfigError
from safespan.settings.names import ENGINES, check_choices, hypothesis_names

if TYPE_CHECKING:
    from safespan.results.run_folder import RunFolder

Model = Annotated[str, typer.Option(help="a model folder, hub id[@revision], BASE+ADAPTER or .gguf file")]
Optional = Annotated[str | None, typer.Option(help="named in the same ways")]


@app.command()
def hypotheses() -> None:
    """List the claims about where safety lies: name, paper, what it needs, what it says."""
    from safespan.subspaces import find_hypothesis

    for name in hypothesis_names():
        hypothesis = find_hypothesis(name)
        needs = f" (needs {', '.join(sorted(hypothesis.needs))})" if hypothesis.needs else ""
        typer.echo(f"{name:<20}{hypothesis.paper:<34}{hypothesis.claim}{needs}")


@app.command("test")
def run_test(
    hypothesis: Annotated[list[str], typer.Option(help="name, as `safespan hypotheses` lists it; repeatable")],
    base: Model,
    aligned: Model,
    useful: Optional = None,
    harmful: Optional = None,
    contaminated: Annotated[
        str | None, typer.Option(help="fine-tune on useful and some harmful data: u and h of one model, if given")
    ] = None,
    safe: Optional = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(help="useful=FILE and harmful=FILE, for hypotheses that need activations: .txt, .jsonl or .csv"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML with a study's evaluation fields", show_default="gsm8k and advbench, judged by rules"),
    ] = None,
    out: Annotated[Path, typer.Option(help="run folder")] = Path("runs/test"),
    settings: Settings = None,
    engine: Engine = None,
    address: Address = None,
    no_cache: NoCache = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Test claimed safety subspaces on your own models, against random controls of the same energy."""
    check_choices("hypothesis", hypothesis, hypothesis_names())
    check_choices("engine", [engine or "local"], ENGINES)
    files = pairs(prompts or [], "--prompts")
    if files and set(files) != {"useful", "harmful"}:
        raise ConfigError(f"--prompts: expected useful=FILE and harmful=FILE, given {', '.join(files)}")
    from safespan.report.summary import summary, summary_tables
    from safespan.results.run_folder import RunFolder
    from safespan.settings.evaluation import PAPER
    from safespan.settings.reading import check_settings, read_fields
    from safespan.settings.study import StudyConfig
    from safespan.study.run import run_study

    members = {"base": base, "aligned": aligned, "useful": useful, "harmful": harmful, "contaminated": contaminated}
    study: dict[str, Any] = {
        "name": f"Test of {', '.join(hypothesis)}",
        "models": {role: {"model": model} for role, model in {**members, "safe": safe}.items() if model},
        "evaluation": read_fields(config) if config else PAPER,
        "projection": None,
        "overlap": None,
        "verdict": {"hypotheses": hypothesis},
        "execution": {"engine": engine or "local", "address": address, "cache": not no_cache},
    }
    if files:
        roles = [role for role in study["models"] if role != "safe"]
        study["activations"] = {"useful": files["useful"], "harmful": files["harmful"], "models": roles}
    given = check_settings(study, StudyConfig, settings or [], "--set")
    with progress(quiet):
        report = run_study(given, out, shlex.join(["safespan", *sys.argv[1:]]))
    run = RunFolder(out)
    output = CommandOutput(summary(run), [*summary_tables(run), *_verdict_lines(run), f"report: {report}"], [report])
    emit(output, quiet, as_json)


def _verdict_lines(run: "RunFolder") -> list[str]:
    """The verdicts of a run in words, and the figures behind them."""
    from safespan.report.page import read_results
    from safespan.report.verdict import number, reported, verdict_text

    lines = []
    for report in reported(read_results(run)):
        lines.append(f"{report.name}: {report.verdict}. {report.words}.")
        lines += [f"  {outcome}: {verdict_text(under)}; {under.reason}" for outcome, under in report.outcomes.items()]
        for impact in report.impact:
            figures = ", ".join(
                f"{name.replace('_', ' ')} {own:.2f} (controls {number(impact.controls[name])})"
                for name, own in impact.own.items()
                if own is not None
            )
            lines.append(f"  {impact.method}, {impact.energy_kept:.0%} of the energy kept: {figures}")
    return lines
