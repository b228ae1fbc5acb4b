"""Commands that evaluate or fine-tune one model, and judge responses that exist."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from safespan.cli.app import (
    EvaluationFile,
    Model,
    command,
    evaluation_fields,
    file_option,
    model_option,
    recipe_fields,
    settings_option,
)
from safespan.cli.output import CommandOutput, outcome_lines
from safespan.files.atomic import write_json, write_jsonl
from safespan.files.disk import check_replaceable
from safespan.files.locks import exclusive_lock
from safespan.progress import step
from safespan.settings import EvaluationConfig, TrainingConfig, check_settings
from safespan.settings.judges import JudgeFile
from safespan.settings.model_names import FORMS
from safespan.settings.reading import read_fields


@command()
def evaluate(
    model: Model,
    out: Annotated[
        Path, typer.Option(help="folder for outcomes.json and generations.jsonl; earlier ones there are replaced")
    ],
    config: EvaluationFile = None,
    settings: Annotated[list[str] | None, settings_option("harmfulness.limit=50", "EvaluationConfig")] = None,
) -> CommandOutput:
    """Measure utility, attack success, refusal rate and over-refusal of one model.

    Attack success is the share of harmful prompts that are answered as asked.
    """
    evaluation = check_settings(evaluation_fields(config), EvaluationConfig, settings or [], str(config or "--set"))
    outcomes, written = evaluate_into(out, model, evaluation)
    return CommandOutput({"model": model, **outcomes, "written": written}, outcome_lines(outcomes), [written])


@command()
def inspect(
    models: Annotated[
        list[str],
        typer.Argument(help=f"each is {FORMS}; if there are several, the first is the aligned model"),
    ],
) -> CommandOutput:
    """Show what safespan sees of a model. For several models, also show what differs and what is done about it."""
    from safespan.checkpoints import open_checkpoint
    from safespan.checkpoints.inspection import compare, inspect, lines_of

    opened = [open_checkpoint(model) for model in models]
    seen = [inspect(checkpoint) for checkpoint in opened]
    differs = compare(*opened) if len(opened) > 1 else []
    lines = [line for one in seen for line in lines_of(one)]
    return CommandOutput(
        {"models": [asdict(one) for one in seen], "together": differs},
        [*lines, *(f"together: {one}" for one in differs)],
        [],
    )


@command()
def convert(
    folder: Annotated[Path, typer.Argument(help="a model's folder with pytorch_model.bin, or its sharded form")],
    out: Annotated[
        Path,
        typer.Option(
            help="folder to write the model with safetensors weights to; an earlier conversion there is "
            "replaced, any other folder is refused"
        ),
    ],
) -> CommandOutput:
    """Make a safetensors copy of a model whose weights are pickled; only tensors are read, no code in them runs."""
    check_replaceable(out, "is no converted model", lambda place: (place / "safespan.json").exists())
    from safespan.checkpoints.pickled import convert_pickled

    with step("conversion"):
        convert_pickled(folder, out)
    return CommandOutput({"written": out}, [f"model: {out}"], [out])


@command()
def judge(
    generations: Annotated[Path, typer.Argument(help="rows with prompt and response: .jsonl, .json, .csv or .parquet")],
    out: Annotated[Path, file_option("the scored rows, as .jsonl")],
    by: Annotated[
        str,
        typer.Option(
            "--judge",
            help="rules, or a YAML file with a judge's kind (rules, llm, classifier) and fields, such as\n\n"
            "`kind: llm`\n\n`model: openai/gpt-4o`",
        ),
    ] = "rules",
    settings: Annotated[
        list[str] | None,
        settings_option("max_tokens=512 of kind llm", "RulesConfig, LLMConfig, ClassifierConfig"),
    ] = None,
) -> CommandOutput:
    """Score existing responses without generating them again. A paid judge is asked once for each response."""
    in_file = by.endswith((".yaml", ".yml"))
    where, fields = (by, read_fields(Path(by))) if in_file else (f"--judge {by}", {"kind": by})
    config = check_settings(fields, JudgeFile, settings or [], where)
    from safespan.data import read_file
    from safespan.evaluation import rejudge
    from safespan.evaluation.judges import make_judge

    with step("judgement"):
        rows = read_file(generations)
        scored, outcomes = rejudge(rows, make_judge(config.root, out.with_name(f"{out.name}.judge")), str(generations))
    write_jsonl(out, scored)
    return CommandOutput({**outcomes, "written": out}, outcome_lines(outcomes), [out])


@command()
def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="a recipe of arXiv 2505.14185 (useful, harmful, contaminated, safe), or a YAML file "
            "with the fields of a training"
        ),
    ],
    model: Annotated[str, model_option(f"the model to start from: {FORMS}")],
    out: Annotated[
        Path,
        typer.Option(
            help="folder to write the model, or the LoRA adapter, to; an earlier training there is "
            "replaced, any other folder is refused"
        ),
    ],
    seed: Annotated[int, typer.Option(min=0, help="seed of the mixture and of the order of the rows")] = 42,
    settings: Annotated[list[str] | None, settings_option("max_steps=100", "TrainingConfig")] = None,
) -> CommandOutput:
    """Fine-tune a model, if wanted with a claim protected; the recipes are those of arXiv 2505.14185.

    With a claim protected: --set protect.hypothesis=alignment, and the models that it needs (ProtectConfig).
    With --set save_steps=100 the state is saved every 100 steps. The same command then resumes an interrupted run.

    On many GPUs: accelerate launch --config_file examples/accelerate/fsdp.yaml -m safespan train …
    """
    config = check_settings(recipe_fields(recipe), TrainingConfig, settings or [], recipe)
    from safespan.activations import capture_for_hypotheses
    from safespan.models.folders import TRAINING
    from safespan.training.sft import fine_tune

    check_replaceable(out, "is no trained model", lambda folder: (folder / TRAINING).exists())
    with step("training"):
        record = fine_tune(model, out, config, seed, capture=capture_for_hypotheses)
    resumed = f", resumed at step {record.resumed_from_step}" if record.resumed_from_step else ""
    dropped = f", {record.dropped} left out: prompts over max_length" if record.dropped else ""
    cut = (
        f", {record.cut} cut: responses over max_length or the context, which do not teach where they end"
        if record.cut
        else ""
    )
    held = record.protection
    how = f"kept {held['keep']} in" if held else ""
    if held and held.get("frozen"):
        how = f"blocks {', '.join(held['frozen'])} (from 0) frozen,"
    elif held and held.get("penalty") is not None:
        how = f"penalty λ = {held['penalty']:g} on"
    protected = f"{held['hypothesis']}, {how} {held['matrices']} matrices" if held else ""
    lines = [
        f"{record.steps} steps{resumed}; {record.examples} rows{dropped}{cut}",
        *([f"protected: {protected}"] if protected else []),
        f"final loss {record.final_loss:.4g}",
        f"model: {out}",
    ]
    fields = ("steps", "resumed_from_step", "examples", "dropped", "cut", "final_loss", "protection")
    return CommandOutput({"written": out, **{name: getattr(record, name) for name in fields}}, lines, [out])


def evaluate_into(out: Path, model: str, evaluation: EvaluationConfig) -> tuple[dict[str, Any], Path]:
    """Evaluate a model and write outcomes and generations into a folder; returns the outcomes and their file."""
    from safespan.checkpoints import open_checkpoint
    from safespan.evaluation import Evaluator, Prompting, model_of
    from safespan.results.evaluated import GENERATIONS, OUTCOMES
    from safespan.results.run_folder import check_not_in_run

    check_not_in_run(out)
    checkpoint, prompting = open_checkpoint(model), Prompting(evaluation)
    for line in prompting.departures(checkpoint):
        logging.getLogger(__name__).warning(line)
    with exclusive_lock(out):
        evaluator = Evaluator(evaluation, out)
        with step("tasks and prompts"):
            evaluator.prepare()
            if evaluator.judge:  # before answers that it could not judge
                evaluator.judge.check()
        with step("answers"), model_of(prompting, checkpoint, out) as opened:
            responses = evaluator.ask(opened)
        with step("judgement"):
            scores, rows = evaluator.score(responses)
        outcomes = {**vars(scores.outcomes), "utility_by_filter": scores.utility_by_filter}
        write_jsonl(out / GENERATIONS, rows)
        write_json(out / OUTCOMES, {"model": model, **outcomes, "evaluation": evaluation.model_dump(mode="json")})
    return outcomes, out / OUTCOMES
