"""The study, stage by stage, as the paper's method section would tell it."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from safespan.checkpoints import Checkpoint, open_checkpoint
from safespan.choices import hypothesis_names
from safespan.config import StudyConfig
from safespan.durable import held, writing
from safespan.errors import ConfigError
from safespan.evaluation import Evaluator, MeasureConfig
from safespan.evaluation.judges import make_judge
from safespan.execution import execution
from safespan.experiments import (
    activations,
    ask_judge_again,
    evaluate_models,
    evaluate_points,
    make_data,
    make_model,
    model_name,
    overlap,
)
from safespan.pool import threads
from safespan.progress import step
from safespan.projection import Family
from safespan.report import write_report
from safespan.results import RunFolder
from safespan.stages import Stages, file_hashes, key_of
from safespan.subspaces import CapturedActivations, SpectrumCache, decompose
from safespan.trials import capture_activations, run_trials


def run_study(config: StudyConfig, out: Path, command: str = "safespan run") -> Path:
    """Run a study into a folder and write its report; what stands there from before is not done again.

    Progress is shown inside `with safespan.progress.shown():`.

    Args:
        config: the study.
        out: the run folder.
        command: how to run it again, for the manifest and the report.

    Returns:
        The path of the report.

    Raises:
        SafespanError: bad input, in one line.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file: give a folder to run in")
    here, run = config.resolved(out), RunFolder(out)
    harm = here.evaluation.harmfulness
    if harm and harm.judge.kind == "llm" and not run.table("projection").exists():
        make_judge(harm.judge, run.root / "judge")  # a missing key is said now, not after hours of training
    with writing(out), held(out), threads(config.threads or torch.get_num_threads()):
        return _run(config, here, run, command)


def stage_names(config: StudyConfig) -> list[str]:
    """The stages of a study, in their order."""
    ceiling = config.overlap.ceiling if config.overlap else None
    found = {
        "data": config.data,
        **{f"model {role}": source.model is None for role, source in config.models.items()},
        "outcomes": True,
        "projection": config.projection,
        f"model {ceiling} again": ceiling,
        "update overlap": config.overlap,
        "activation overlap": config.activations,
        "activations of aligned": config.verdict and config.activations,
        "verdict": config.verdict,
    }
    return [name for name, asked in found.items() if asked]


def _run(config: StudyConfig, here: StudyConfig, run: RunFolder, command: str) -> Path:
    stages = Stages(run, stage_names(config))
    runs = execution(config.execution)
    decomposed = SpectrumCache().decompose if config.execution.cache else decompose

    # 1. The models: base, aligned, and its useful, harmful, contaminated and safe fine-tunes (METHODS §1).
    if config.data:
        key = key_of(config.data, config.seed, run.root.resolve())  # its tasks name the folder that they lie in
        stages.stage("data", key, [run.data], partial(make_data, config, run))
    checkpoints: dict[str, Checkpoint] = {}
    inputs: dict[str, str] = {}
    for role, source in here.models.items():
        if source.model is None:
            start, files = inputs.get(str(source.start)), file_hashes(source.train)
            key = key_of(role, config.models[role], config.seed, start, files)
            target = run.checkpoint(role)
            stages.stage(f"model {role}", key, [target], partial(make_model, here, role, run))
        checkpoints[role] = open_checkpoint(model_name(here, role, run))
        inputs[role] = checkpoints[role].sha256()
    family = Family(
        checkpoints["base"],
        checkpoints["aligned"],
        {role: checkpoints[role] for role in config.finetunes},
        checkpoints.get("safe"),
    )

    evaluator = Evaluator(here.evaluation, run.root)

    # 2. Outcomes of the models as they are.
    judged = {**inputs, **file_hashes(here.evaluation)}
    key = key_of(config.evaluation, judged)
    ask_judge_again(evaluator, run, key, run.table("models"))
    stages.stage(
        "outcomes", key, [run.table("models")], partial(evaluate_models, evaluator, checkpoints, run, key, runs)
    )

    # 3. Experiments 1 and 2: every update projected on and off every subspace (METHODS §2).
    if here.projection:
        key = key_of(config.evaluation, config.projection, config.seed, judged)
        ask_judge_again(evaluator, run, key, run.table("projection"))
        tables = [run.table("projection"), run.table("removed_energy")]
        work = partial(evaluate_points, here, family, evaluator, run, key, runs, decomposed)
        stages.stage("projection", key, tables, work)

    # 4. Experiment 3: spectra of the updates, and overlap of their subspaces (METHODS §3), under the ceiling of one
    # recipe under two seeds.
    if here.overlap:
        again: Checkpoint | None = None
        if ceiling := here.overlap.ceiling:
            source = here.models[ceiling]
            hashes = file_hashes(source.train)
            key = key_of(ceiling, config.models[ceiling], config.seed + 1, inputs.get(str(source.start)), hashes)
            target = run.checkpoint(f"{ceiling}-again")
            stages.stage(f"model {ceiling} again", key, [target], partial(make_model, here, ceiling, run, again=True))
            again = open_checkpoint(model_name(here, ceiling, run, again=True))
        key = key_of(config.overlap, inputs, again and again.sha256())
        work = partial(overlap, here, family, again, run, runs, decomposed)
        stages.stage("update overlap", key, [run.table("overlap"), run.table("spectra")], work)

    # 5. Experiment 4: overlap of activation subspaces (METHODS §4).
    if here.activations:
        key = key_of(config.activations, config.seed, inputs, file_hashes(here.activations))
        tables = [run.table("activations"), run.table("separation")]
        stages.stage("activation overlap", key, tables, partial(activations, here, checkpoints, run))

    # 6. The verdict: every claimed safety subspace against random controls of the same energy (METHODS §7).
    if here.verdict and config.verdict:
        if here.activations:
            key = key_of(config.activations, inputs["aligned"], file_hashes(here.activations))
            work = partial(capture_activations, here, checkpoints["aligned"], run)
            stages.stage("activations of aligned", key, [run.captured], work)
            family = replace(family, captured=CapturedActivations(run.captured))
        measured = config.verdict.model_dump(mode="json", include={*MeasureConfig.model_fields, "fractions", "side"})
        files = file_hashes(here.activations) | file_hashes(here.verdict)
        key = key_of(config.evaluation, measured, config.seed, judged, files)
        work = partial(run_trials, here, family, evaluator, run, key, runs, decomposed)
        tables = [run.table("trials"), run.table("verdicts")]
        stages.stage("verdict", key_of(key, config.verdict, hypothesis_names()), tables, work)

    stages.write_manifest(config.name, command, config.model_dump(mode="json"), config.seed, judged)
    with step("report"):
        return write_report(run)
