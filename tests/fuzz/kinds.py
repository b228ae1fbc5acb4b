"""Kinds of hostile input: how one is made, and which of safespan's readers it is given to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fuzz import checkpoints, rows, runs, settings


@dataclass(frozen=True)
class Kind:
    """`make` writes an input into an empty folder; `read` gives it to safespan, and returns what came of it as text."""

    make: Callable[[Random, Path], None]
    read: Callable[[Path], str]
    share: int
    """Inputs of this kind among a thousand."""


KINDS = {
    "safetensors file": Kind(checkpoints.make_checkpoint, checkpoints.read_checkpoint, 170),
    "shards and index": Kind(checkpoints.make_sharded, checkpoints.read_checkpoint, 130),
    "PEFT adapter": Kind(checkpoints.make_adapter, checkpoints.read_adapter, 130),
    "study YAML": Kind(settings.make_study, settings.read_study, 120),
    "--set": Kind(settings.make_setting, settings.read_setting, 80),
    "model name": Kind(settings.make_name, settings.read_name, 40),
    "data file": Kind(rows.make_rows, rows.read_prompts, 150),
    "run folder": Kind(runs.make_run_folder, runs.read_run_folder, 80),
    "judge's reply": Kind(runs.make_reply, runs.read_reply, 80),
    "GGUF": Kind(checkpoints.make_gguf, checkpoints.read_gguf, 10),
    "model folder": Kind(checkpoints.make_model_folder, checkpoints.read_model_folder, 10),
    "report": Kind(runs.make_run_folder, runs.read_page, 1),
}
