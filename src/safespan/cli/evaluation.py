"""The command that evaluates one model."""

from pathlib import Path
from typing import Annotated

import typer

from safespan.cli.app import Settings, app, show


@app.command()
def evaluate(
    model: Annotated[str, typer.Option(help="a folder, hub id[@revision], BASE+ADAPTER or .gguf file")],
    out: Annotated[Path, typer.Option(help="folder for outcomes.json and generations.jsonl")],
    config: Annotated[
        Path | None,
        typer.Option(help="YAML with a study's evaluation fields", show_default="gsm8k and advbench, judged by rules"),
    ] = None,
    settings: Settings = None,
) -> None:
    """Measure utility, harmfulness and over-refusal of one model."""
    from safespan.checkpoints import open_checkpoint
    from safespan.evaluation import PAPER, EvaluationConfig, Evaluator, model_of
    from safespan.results import write_json, write_jsonl
    from safespan.settings import check_settings, load_settings

    given = settings or []
    read = (
        load_settings(config, EvaluationConfig, given)
        if config
        else check_settings(PAPER, EvaluationConfig, given, "--set")
    )
    checkpoint = open_checkpoint(model)
    out.mkdir(parents=True, exist_ok=True)
    evaluator = Evaluator(read, out)
    evaluator.prepare()
    with model_of(read.engine, checkpoint, out) as opened:
        outcomes, said = evaluator.evaluate(opened)
    write_jsonl(out / "generations.jsonl", said)
    write_json(out / "outcomes.json", {"model": model, **outcomes, "evaluation": read.model_dump(mode="json")})
    show(outcomes)
