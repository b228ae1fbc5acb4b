"""The command that fine-tunes a model."""

from pathlib import Path
from typing import Annotated

import typer

from safespan.cli.app import Settings, command, model_option
from safespan.cli.output import CommandOutput
from safespan.errors import ConfigError
from safespan.progress import step
from safespan.settings import TrainingConfig, check_settings, load_settings
from safespan.settings.training import RECIPES


@command()
def train(
    recipe: Annotated[str, typer.Argument(help="useful, harmful, contaminated, safe, or a YAML file of its fields")],
    model: Annotated[str, model_option("the model to start from: a folder, a hub id, BASE+ADAPTER")],
    out: Annotated[Path, typer.Option(help="folder to write the model, or the LoRA adapter, to")],
    seed: Annotated[int, typer.Option(min=0, help="seed of the mixture and of the order of the rows")] = 42,
    settings: Settings = None,
) -> CommandOutput:
    """Fine-tune a model as in the paper; with save_steps set, the same command resumes an interrupted run.

    On many GPUs: accelerate launch --config_file examples/accelerate/fsdp.yaml -m safespan train …
    """
    if recipe in RECIPES:
        config = check_settings({"recipe": recipe}, TrainingConfig, settings or [], recipe)
    else:
        config = load_settings(Path(recipe), TrainingConfig, settings or [])
    from safespan.training.sft import RECORD, fine_tune

    if out.exists() and not (out / RECORD).exists():
        raise ConfigError(f"{out} exists and is no trained model: give a new folder")
    with step("training"):
        record = fine_tune(model, out, config, seed)
    resumed = f", resumed at step {record.resumed_from_step}" if record.resumed_from_step else ""
    dropped = f", {record.dropped} left out: prompts over max_length" if record.dropped else ""
    lines = [
        f"{record.steps} steps{resumed}; {record.examples} rows{dropped}",
        f"final loss {record.final_loss:.4g}",
        f"model: {out}",
    ]
    fields = ("steps", "resumed_from_step", "examples", "dropped", "final_loss")
    return CommandOutput({"written": out, **{name: getattr(record, name) for name in fields}}, lines, [out])
