"""The command that evaluates one model."""

from pathlib import Path
from typing import Annotated

import typer

from safespan.cli.app import Settings, app
from safespan.cli.output import CommandOutput, Json, Quiet, emit, outcome_lines, progress


@app.command()
def evaluate(
    model: Annotated[str, typer.Option(help="a folder, hub id[@revision], BASE+ADAPTER or .gguf file")],
    out: Annotated[Path, typer.Option(help="folder for outcomes.json and generations.jsonl")],
    config: Annotated[
        Path | None,
        typer.Option(help="YAML with a study's evaluation fields", show_default="gsm8k and advbench, judged by rules"),
    ] = None,
    settings: Settings = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure utility, harmfulness and over-refusal of one model."""
    from safespan.checkpoints import open_checkpoint
    from safespan.evaluation import Evaluator, model_of
    from safespan.files.atomic import write_json, write_jsonl
    from safespan.files.locks import exclusive_lock
    from safespan.progress import step
    from safespan.settings.evaluation import PAPER, EvaluationConfig
    from safespan.settings.reading import check_settings, read_fields

    fields = read_fields(config) if config else PAPER
    evaluation = check_settings(fields, EvaluationConfig, settings or [], str(config or "--set"))
    written = out / "outcomes.json"
    with progress(quiet):
        checkpoint = open_checkpoint(model)
        with exclusive_lock(out):
            evaluator = Evaluator(evaluation, out)
            with step("tasks and prompts"):
                evaluator.prepare()
            with step("answers"), model_of(evaluation.engine, checkpoint, out) as opened:
                responses = evaluator.ask(opened)
            with step("judgement"):
                scores, rows = evaluator.score(responses)
            outcomes = {**vars(scores.outcomes), "utility_by_filter": scores.utility_by_filter}
            write_jsonl(out / "generations.jsonl", rows)
            write_json(written, {"model": model, **outcomes, "evaluation": evaluation.model_dump(mode="json")})
    values = {"model": model, **outcomes, "written": written}
    emit(CommandOutput(values, outcome_lines(outcomes), [written]), quiet, as_json)
