"""Commands that run a whole study, list or test hypotheses, and write pages from runs that are done."""

import json
import shlex
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from safespan.cli.app import (
    EvaluationFile,
    Model,
    PromptFields,
    Settings,
    app,
    command,
    file_option,
    model_option,
    prompt_files,
    recipe_fields,
)
from safespan.cli.output import CommandOutput, progress
from safespan.errors import ConfigError
from safespan.settings import PAPER, ExecutionConfig, StudyConfig, bundled_study, check_settings, load_study
from safespan.settings.data import FILES
from safespan.settings.instructions import take_one_path
from safespan.settings.names import TESTS, Test, check_choices, hypothesis_names
from safespan.settings.reading import read_fields

Replicates = Annotated[
    int | None,
    typer.Option(min=1, help="seeds of the whole study, each in seeds/N of the run folder", show_default="1"),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="say what would be done, and its costs; no network, nothing written")
]
RunOut = Annotated[Path | None, typer.Option(help="run folder", show_default="runs/ and the study's file name")]


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(help="run folder of a study")],
    no_generations: Annotated[
        bool, typer.Option("--no-generations", help="leave out what the models said, which can be harmful to read")
    ] = False,
) -> None:
    """Write a run's report again from its tables."""
    with progress(quiet=False):
        from safespan.report import write_report
        from safespan.results.run_folder import RunFolder

        page = write_report(RunFolder(run_dir), not no_generations)
    typer.echo(f"report: {page}")


@app.command()
def compare(
    run_dirs: Annotated[list[Path], typer.Argument(help="run folders of two or more studies")],
    out: Annotated[Path, typer.Option(help="folder for the page and its figures")] = Path("runs/comparison"),
) -> None:
    """Write one page that compares several runs, such as runs of other models or other seeds."""
    with progress(quiet=False):
        from safespan.report import write_comparison
        from safespan.results.run_folder import RunFolder

        page = write_comparison([RunFolder(folder) for folder in run_dirs], out)
    typer.echo(f"comparison: {page}")


@command()
def demo(
    execution: ExecutionConfig,
    out: RunOut = None,
    settings: Settings = None,
    replicates: Replicates = None,
    dry_run: DryRun = False,
) -> CommandOutput:
    """Train the embedded model family, run every experiment and test on it, and write the report: some minutes."""
    config, out = _study(bundled_study("organism"), settings, execution, replicates), out or Path("runs/demo")
    return _plan(config, out) if dry_run else _run(config, out)


@command()
def run(
    study: Annotated[Path, typer.Argument(help="study file; studies/ holds examples")],
    execution: ExecutionConfig,
    out: RunOut = None,
    settings: Settings = None,
    replicates: Replicates = None,
    dry_run: DryRun = False,
) -> CommandOutput:
    """Run a study stage by stage and write a run folder. Finished stages and points are not repeated."""
    config = _study(study, settings, execution, replicates)
    out = out or Path("runs") / study.stem
    return _plan(config, out) if dry_run else _run(config, out)


@command()
def rerun(
    manifest: Annotated[Path, typer.Argument(help="manifest.json of a run")],
    out: Annotated[
        Path | None, typer.Option(help="run folder", show_default="the name of the run's folder followed by -again")
    ] = None,
) -> CommandOutput:
    """Run a study again from its manifest, and warn of versions, hardware, inputs and tables that differ."""
    from safespan.results import Manifest

    if Manifest.read(manifest).config.get("data") == "organism":
        take_one_path()
    from safespan.study.rerun import rerun

    folder = manifest.absolute().parent
    out = out or folder.with_name(f"{folder.name}-again")
    rerun(manifest, out, _typed())
    return _results(out)


@command()
def verdict(
    run_dir: Annotated[Path, typer.Argument(help="run folder of a study with a verdict")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="margin=VALUE, confidence=VALUE or resamples=VALUE; repeatable")
    ] = None,
) -> CommandOutput:
    """Judge a finished run again with another margin, confidence or number of resamples, without asking any model.

    The verdicts, the report and the manifest of the run are written anew.
    """
    from safespan.study.verdict_again import judge_run_again

    judge_run_again(run_dir, settings or [])
    return _results(run_dir, verdicts=True)


@command()
def hypotheses() -> CommandOutput:
    """List the claims about where safety lies: claim, paper, the authors' test, the tests here, and the needs.

    `after` before a paper means that its authors made none of the three tests: the claim follows the paper, or is
    safespan's own. The aligned model is always needed. Other needs are listed by test if the tests differ.
    """
    from safespan.subspaces import find_hypothesis

    values, lines = {}, list[str]()
    for name in hypothesis_names():
        found = find_hypothesis(name)
        tests, made = (", ".join(names) for names in (found.tests, found.authors_tests))
        needs = {test: sorted(found.needs_of(test)) for test in found.tests}
        values[name] = {
            "claim": found.claim,
            "paper": found.paper,
            "after": not made,
            "kind": found.kind,
            "authors_tests": found.authors_tests,
            "tests": found.tests,
            "needs": sorted(found.needs),
            "needs_by_test": needs,
        }
        lines += [
            f"{name}: {found.claim}",
            f"    {'' if made else 'after '}{found.paper}; authors' test: {made or 'none of the three'}; "
            f"tests here: {tests}; needs: {_needs_in_words(needs)}",
        ]
    return CommandOutput({"hypotheses": values}, lines, [])


@app.command()
def schema(
    out: Annotated[Path, file_option("JSON file to write")] = Path("study.schema.json"),
) -> None:
    """Write the JSON Schema of a study file. An editor uses it to complete and check study files.

    Name it in the first line of a study, relative to the study's folder:
    `# yaml-language-server: $schema=study.schema.json`.
    """
    from safespan.files.atomic import write_json
    from safespan.settings.schema import study_schema

    write_json(out, study_schema())
    typer.echo(f"schema: {out}")


def _needs_in_words(needs: Mapping[Test, list[str]]) -> str:
    """The needs of each test; once where they are the same, else with the tests behind them."""
    words = {"task": "the fine-tune that is tested"}
    groups: dict[str, list[Test]] = {}
    for test, inputs in needs.items():
        groups.setdefault(" and ".join(words.get(one, one) for one in inputs) or "the aligned model alone", []).append(
            test
        )
    if len(groups) == 1:
        return next(iter(groups))
    return ", ".join(f"{inputs} ({', '.join(tests)})" for inputs, tests in groups.items())


@command("test")
def run_test(
    hypothesis: Annotated[list[str], typer.Option(help="name, as `safespan hypotheses` lists it; repeatable")],
    aligned: Model,
    execution: ExecutionConfig,
    base: Annotated[str | None, model_option("base model, for claims about the alignment update")] = None,
    useful: Annotated[str | None, model_option("fine-tune on useful data")] = None,
    harmful: Annotated[str | None, model_option("fine-tune on harmful data")] = None,
    contaminated: Annotated[
        str | None, model_option("fine-tune on useful and some harmful data; utility and harm are measured on it")
    ] = None,
    finetuned: Annotated[
        str | None,
        model_option("fine-tune of any kind; measured in the same way if no contaminated one is given"),
    ] = None,
    safe: Annotated[str | None, model_option("safety-tuned model, for claims that need it")] = None,
    tests: Annotated[
        str | None,
        typer.Option(
            help="tests to run: update, ablation, training, separated by commas",
            show_default="update if there is a fine-tune, and ablation",
        ),
    ] = None,
    training: Annotated[
        str | None,
        typer.Option(
            help="in place of --contaminated, for the training test: `contaminated`, the paper's recipe, or a YAML file"
        ),
    ] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(help=f"useful=FILE and harmful=FILE, for hypotheses that need activations; each {FILES}"),
    ] = None,
    prompt_field: PromptFields = None,
    config: EvaluationFile = None,
    out: Annotated[Path, typer.Option(help="run folder")] = Path("runs/test"),
    settings: Settings = None,
) -> CommandOutput:
    """Test claimed safety subspaces on your own models, against random controls of the same energy.

    Three tests: project a finished update (needs a fine-tune), remove the subspace from the aligned model, protect it
    in a contaminated training. A claim about directions needs no other model than the aligned one for the second.
    """
    check_choices("hypothesis", hypothesis, hypothesis_names())
    roles = {"base": base, "aligned": aligned, "useful": useful, "harmful": harmful}
    roles |= {"contaminated": contaminated, "finetuned": finetuned, "safe": safe}
    models: dict[str, Any] = {role: {"model": model} for role, model in roles.items() if model}
    chosen = [name.strip() for name in tests.split(",")] if tests else []
    check_choices("test", chosen, TESTS)
    if training:
        if contaminated:
            raise ConfigError("--training and --contaminated both give the contaminated model: give one of them")
        if chosen and not {"update", "training"} & set(chosen):
            raise ConfigError(f"--training gives a contaminated model, and --tests {tests} needs none: leave it out")
        models["contaminated"] = {"start": "aligned", "train": recipe_fields(training)}
    study: dict[str, Any] = {
        "name": f"Test of {', '.join(hypothesis)}",
        "models": models,
        "evaluation": read_fields(config) if config else PAPER,
        "projection": None,
        "overlap": None,
        "verdict": {"hypotheses": hypothesis, "tests": chosen or None},
        "execution": execution.model_dump(exclude_unset=True),
    }
    if prompt_field and not prompts:
        raise ConfigError("--prompt-field names a column of --prompts: give --prompts too")
    if prompts:
        measured = [role for role in models if role != "safe"]
        study["activations"] = {**prompt_files(prompts, prompt_field), "models": measured}
    return _run(check_settings(study, StudyConfig, settings or [], "--set"), out, verdicts=True)


def _study(path: Path, settings: list[str] | None, execution: ExecutionConfig, replicates: int | None) -> StudyConfig:
    """A study with its settings; options that were given win."""
    given = execution.model_dump(exclude_unset=True)
    options = [f"execution.{field}={json.dumps(value)}" for field, value in given.items()]
    options += [f"replicates={replicates}"] if replicates else []
    return load_study(path, [*(settings or []), *options])


def _plan(config: StudyConfig, out: Path) -> CommandOutput:
    """What a study would do, and what it costs."""
    if config.data == "organism":
        take_one_path()
    from safespan.study.costs.estimate import estimate
    from safespan.study.costs.told import cost_lines
    from safespan.study.plan import plan

    lines, costs = plan(config, out), estimate(config, out)
    told = cost_lines(costs, datetime.now())
    return CommandOutput({"plan": lines, "costs": costs.record()}, [*lines, *told], [])


def _run(config: StudyConfig, out: Path, verdicts: bool = False) -> CommandOutput:
    if config.data == "organism":  # before any library chooses its kernels
        take_one_path()
    if config.replicates > 1:
        return _run_replicates(config, out)
    from safespan.study.run import run_study

    run_study(config, out, _typed())
    return _results(out, verdicts)


def _run_replicates(config: StudyConfig, out: Path) -> CommandOutput:
    """Run a study under several seeds; what is printed is about the recipe."""
    from safespan.report.summary import pooled_lines
    from safespan.results import RunFolder
    from safespan.study.replicates import run_replicates

    page = run_replicates(config, out, _typed())
    run = RunFolder(out)
    lines = [*pooled_lines(run), f"report: {page}"]
    return CommandOutput({"report": str(page), "pooled": run.read_table("pooled").rows(named=True)}, lines, [page])


def _results(out: Path, verdicts: bool = False) -> CommandOutput:
    """The results of the run in a folder, if wanted with the verdicts in words."""
    from safespan.report.summary import summary, summary_tables, verdict_lines
    from safespan.results import RunFolder

    run = RunFolder(out)
    words = verdict_lines(run) if verdicts else []
    return CommandOutput(summary(run), [*summary_tables(run), *words, f"report: {run.report}"], [run.report])


def _typed() -> str:
    """The command as it was typed, for the manifest."""
    return shlex.join(["safespan", *sys.argv[1:]])
