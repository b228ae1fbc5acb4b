"""Commands that run a whole study, test claims, and write pages from runs that are done."""

import json
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from safespan.cli.app import (
    Aligned,
    EvaluationFile,
    PromptFields,
    app,
    command,
    evaluation_fields,
    file_option,
    model_option,
    panel,
    prompt_files,
    recipe_fields,
    settings_option,
)
from safespan.cli.output import CommandOutput, progress
from safespan.errors import ConfigError
from safespan.files.disk import check_writable
from safespan.settings import ExecutionConfig, StudyConfig, bundled_study, check_settings, load_study
from safespan.settings.data import FILES
from safespan.settings.instructions import take_one_path
from safespan.settings.names import TESTS, check_choices, hypothesis_names

Replicates = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="number of seeds that the whole study is run with, each in seeds/N of the run folder",
        show_default="1",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="say what would be done, and its costs; no network, nothing written")
]
_RESUMED = "run folder. If it exists, finished stages and points are kept, and only what is missing or changed is run"
StudySettings = Annotated[list[str] | None, settings_option("verdict.margin=0.2", "at its top level")]


@app.command(rich_help_panel=panel("report"))
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

        run = RunFolder(run_dir)
        run.check_there()
        check_writable(run.report, "allow writing in this folder, or give a copy of the run")
        page = write_report(run, not no_generations)
    typer.echo(f"report: {page}")


@app.command(rich_help_panel=panel("compare"))
def compare(
    run_dirs: Annotated[list[Path], typer.Argument(help="run folders of two or more studies")],
    out: Annotated[
        Path, typer.Option(help="folder for the page and its figures; earlier ones there are replaced")
    ] = Path("runs/comparison"),
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
    out: Annotated[Path, typer.Option(help=_RESUMED)] = Path("runs/demo"),
    settings: StudySettings = None,
    replicates: Replicates = None,
    dry_run: DryRun = False,
) -> CommandOutput:
    """Train the embedded model family, run every experiment and test on it, and write the report: some minutes."""
    config = _study(bundled_study("organism"), settings, execution, replicates)
    return _plan(config, out) if dry_run else _run(config, out)


@command()
def run(
    study: Annotated[
        Path,
        typer.Argument(
            help="path of a study file: `safespan init` writes one. Examples are in studies/ of the repository, and "
            "after an install in safespan/studies/ of site-packages"
        ),
    ],
    execution: ExecutionConfig,
    out: Annotated[Path | None, typer.Option(help=_RESUMED, show_default="runs/ and the study's file name")] = None,
    settings: StudySettings = None,
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
        Path | None,
        typer.Option(
            help=f"{_RESUMED}. The folder of the manifest itself is refused",
            show_default="the name of the run's folder followed by -again",
        ),
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
        list[str] | None,
        typer.Option(
            "--set",
            help="repeatable; what is not given stays as in the run.\n\n"
            "margin=VALUE: smallest D, A or T (in size) that counts as an effect (0.15 in a new study).\n\n"
            "confidence=VALUE: of all intervals of a test together (0.9).\n\n"
            "resamples=VALUE: bootstrap resamples of the prompts (1000)",
        ),
    ] = None,
) -> CommandOutput:
    """Judge a finished run again with another margin, confidence or number of resamples, without asking any model.

    D, A and T are the numbers of the update, ablation and training test: 0 if the claim does the same as its random
    controls. The verdicts, the report and the manifest of the run are written anew.
    """
    from safespan.study.verdict_again import judge_run_again

    judge_run_again(run_dir, settings or [])
    return _results(run_dir, verdicts=True)


@app.command(rich_help_panel=panel("schema"))
def schema(
    out: Annotated[Path, file_option("JSON file to write")] = Path("study.schema.json"),
) -> None:
    """Write the JSON Schema of a study file, which lists all fields. An editor uses it to complete and check studies.

    Without --out it is the file study.schema.json in the current folder.

    Name it in the first line of a study, relative to the study's folder:
    `# yaml-language-server: $schema=study.schema.json`.
    """
    from safespan.files.atomic import write_json
    from safespan.settings.schema import study_schema

    write_json(out, study_schema())
    typer.echo(f"schema: {out}")


@command("test")
def run_test(
    hypothesis: Annotated[list[str], typer.Option(help="claim, as `safespan hypotheses` lists it; repeatable")],
    aligned: Aligned,
    execution: ExecutionConfig,
    base: Annotated[
        str | None, model_option("the model before alignment, for claims about the alignment update")
    ] = None,
    useful: Annotated[str | None, model_option("your fine-tune, if it is on useful data alone")] = None,
    harmful: Annotated[str | None, model_option("your fine-tune, if it is on harmful data")] = None,
    contaminated: Annotated[
        str | None,
        model_option("your fine-tune, if it is on useful and some harmful data; the update test is made on it"),
    ] = None,
    finetuned: Annotated[
        str | None,
        model_option(
            "your fine-tune; use this if it is neither useful, harmful nor contaminated, or if you do not know. The "
            "update test is made on it if no contaminated one is given"
        ),
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
            help="how the contaminated model is trained here, in place of --contaminated (for the training test):\n\n"
            "`contaminated`, the recipe of arXiv 2505.14185 (MetaMathQA with 20 % of BeaverTails); or\n\n"
            "a YAML file with the fields of a training (TrainingConfig). The training test needs contaminate_with in it"
        ),
    ] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(help=f"useful=FILE and harmful=FILE, for claims that need prompts; each {FILES}"),
    ] = None,
    prompt_field: PromptFields = None,
    config: EvaluationFile = None,
    out: Annotated[Path, typer.Option(help=_RESUMED)] = Path("runs/test"),
    settings: Annotated[list[str] | None, settings_option("verdict.prompts=50", "at its top level")] = None,
    dry_run: DryRun = False,
) -> CommandOutput:
    """Test claims on your own models, against random controls, which are always added.

    update test: the part of a finished update inside the claim's subspace, or outside it, is added to the aligned
    model; or the update is edited as the claim says. It needs a fine-tune.
    ablation test: the subspace is removed from the aligned model. A claim about directions that prompts give needs no
    other model than the aligned one for the ablation test.
    training test: the aligned model is fine-tuned on contaminated data, with the claim protected (--training).

    In --out: the tables (results/*.csv), a verdict on each claim in each test (selective, not selective or
    inconclusive), and the report.
    """
    check_choices("claim", hypothesis, hypothesis_names())
    roles = {"base": base, "aligned": aligned, "useful": useful, "harmful": harmful}
    roles |= {"contaminated": contaminated, "finetuned": finetuned, "safe": safe}
    models: dict[str, Any] = {role: {"model": model} for role, model in roles.items() if model}
    chosen = [name.strip() for name in tests.split(",")] if tests else []
    check_choices("test", chosen, TESTS)
    if "training" in chosen and not training:
        raise ConfigError(
            "the training test trains the contaminated model itself: give --training, or leave the test out"
        )
    if training:
        if contaminated:
            raise ConfigError("--training and --contaminated both give the contaminated model: give one of them")
        if chosen and not {"update", "training"} & set(chosen):
            raise ConfigError(f"--training gives a contaminated model, and --tests {tests} needs none: leave it out")
        models["contaminated"] = {"start": "aligned", "train": recipe_fields(training)}
    study: dict[str, Any] = {
        "name": f"Test of {', '.join(hypothesis)}",
        "models": models,
        "evaluation": evaluation_fields(config),
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
    checked = check_settings(study, StudyConfig, settings or [], "--set")
    return _plan(checked, out) if dry_run else _run(checked, out, verdicts=True)


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
    from safespan.report.summary import failed_checks, summary, summary_tables, verdict_lines
    from safespan.results import RunFolder

    run = RunFolder(out)
    words = verdict_lines(run) if verdicts else failed_checks(run)
    return CommandOutput(summary(run), [*summary_tables(run), *words, f"report: {run.report}"], [run.report])


def _typed() -> str:
    """The command as it was typed, for the manifest."""
    return shlex.join(["safespan", *sys.argv[1:]])
