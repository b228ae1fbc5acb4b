"""The command that fine-tunes a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safespan.cli.app import Settings, app
from safespan.cli.output import CommandOutput, Json, Quiet, emit, progress

if TYPE_CHECKING:
    from safespan.settings.training import TrainingConfig


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="useful, harmful, contaminated, safe, or a YAML file of its fields")],
    model: Annotated[str, typer.Option(help="the model to start from: a folder, a hub id, BASE+ADAPTER")],
    out: Annotated[Path, typer.Option(help="folder to write the model, or the LoRA adapter, to")],
    seed: Annotated[int, typer.Option(min=0, help="seed of the mixture and of the order of the rows")] = 42,
    settings: Settings = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fine-tune a model as in the paper; with save_steps set, the same command resumes an interrupted run.

    On many GPUs: accelerate launch --config_file examples/accelerate/fsdp.yaml -m safespan train …
    """
    config = _config(recipe, settings or [])
    from safespan.errors import ConfigError
    from safespan.progress import is_main_process, step
    from safespan.training.sft import RECORD, fine_tune

    if out.exists() and not (out / RECORD).exists():
        raise ConfigError(f"{out} exists and is no trained model: give a new folder")
    with progress(quiet), step("training"):
        record = fine_tune(model, out, config, seed)
    if not is_main_process():
        return
    resumed = f", resumed at step {record.resumed_from_step}" if record.resumed_from_step else ""
    dropped = f", {record.dropped} left out: prompts over max_length" if record.dropped else ""
    lines = [
        f"{record.steps} steps{resumed}; {record.examples} rows{dropped}",
        f"final loss {record.final_loss:.4g}",
        f"model: {out}",
    ]
    fields = ("steps", "resumed_from_step", "examples", "dropped", "final_loss")
    values = {"written": out, **{name: getattr(record, name) for name in fields}}
    emit(CommandOutput(values, lines, [out]), quiet, as_json)


def _config(recipe: str, settings: list[str]) -> "TrainingConfig":
    from safespan.settings.reading import check_settings, load_settings
    from safespan.settings.training import RECIPES, TrainingConfig

    if recipe in RECIPES:
        return check_settings({"recipe": recipe}, TrainingConfig, settings, recipe)
    return load_settings(Path(recipe), TrainingConfig, settings)
