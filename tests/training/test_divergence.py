"""A training that diverges ends at that step, in one line, and writes no model."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from safespan.errors import ConfigError
from safespan.settings.training import TrainingConfig
from safespan.study.claim_training import Training, TrainingWorker
from safespan.training.divergence import StopIfDiverged
from safespan.training.sft import fine_tune
from safespan.training.watch import Watch
from tiny_model import save_tiny_model

HUGE = {"learning_rate": 1e30, "max_steps": 6}
# A step of warm-up at 0, one at the peak, which makes the weights huge, and the cosine's first of five.
STEP, RATE = 3, 1e30 * (1 + math.cos(math.pi / 5)) / 2


def ends(start: Path, out: Path | None, config: TrainingConfig, **options: Any) -> str:
    with pytest.raises(ConfigError, match="diverged") as caught:
        fine_tune(start, out, config, 0, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"lora": {}},
        {"lora": {"merge": True}},
        {"batch_size": 2, "accumulation_steps": 2},
        {"compute": "bf16"},
        {"gradient_checkpointing": False},
    ],
)
def test_no_model_is_written_and_the_line_says_where_and_what_to_do(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig, change: dict[str, Any]
) -> None:
    config = TrainingConfig.model_validate({**config.model_dump(), **HUGE, **change})
    before = sorted(tmp_path.iterdir())
    line = ends(tiny_model_folder, tmp_path / "out", config)
    assert line.startswith(f"{tmp_path / 'out'}: the training diverged in step {STEP} of 6: loss ")
    assert f"gradient norm nan, learning rate {RATE:.4g}; no model is written. Lower learning_rate (1e+30)" in line
    assert ("or set compute to fp32" in line) == (config.compute == "bf16")
    assert "\n" not in line
    assert sorted(tmp_path.iterdir()) == before


def test_the_last_checkpoint_is_kept_and_is_whole(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig
) -> None:
    config = config.model_copy(update={**HUGE, "save_steps": 1})
    line = ends(tiny_model_folder, tmp_path / "out", config)
    kept = tmp_path / ".out.training" / f"checkpoint-{STEP - 1}"
    assert (
        f"no model is written; the weights after step {STEP - 1} stay in {kept} until other settings are tried" in line
    )
    assert all(bool(weight.isfinite().all()) for weight in load_file(kept / "model.safetensors").values())
    AutoModelForCausalLM.from_pretrained(kept)
    assert not (kept.parent / f"checkpoint-{STEP}").exists()
    assert not (tmp_path / "out").exists()


def test_a_start_without_a_finite_loss_is_not_blamed_on_the_learning_rate(
    tmp_path: Path, config: TrainingConfig
) -> None:
    start = save_tiny_model(tmp_path / "start")
    weights = load_file(start / "model.safetensors")
    name = "model.norm.weight"
    save_file({**weights, name: weights[name] * 3e38}, start / "model.safetensors", {"format": "pt"})
    line = ends(start, None, config.model_copy(update={"compute": "bf16"}))
    assert line.startswith(f"{start}: the training diverged in step 1 of 4: loss nan, ")
    assert line.endswith("Look at the start and the rows or set compute to fp32: no learning rate has played a part")


def test_a_watch_sees_no_weights_that_are_lost(tiny_model_folder: Path, config: TrainingConfig) -> None:
    seen: list[int] = []
    watch = Watch(lambda model, tokenizer, step, steps: seen.append(step), at=tuple(n / 6 for n in range(1, 7)))
    ends(tiny_model_folder, None, config.model_copy(update=HUGE), watch=watch)
    assert seen == list(range(1, STEP))


def test_the_training_test_of_a_claim_says_which_training_it_was(
    tiny_model_folder: Path, config: TrainingConfig
) -> None:
    worker = TrainingWorker(lambda model: None, str(tiny_model_folder), config.model_copy(update=HUGE), 1, 4)
    with pytest.raises(
        ConfigError, match=f"^training test, clean: {tiny_model_folder}: the training diverged in step 3"
    ):
        worker(Training("clean", None, None, None, 0, None))


@pytest.mark.parametrize(
    ("weight", "norm", "stops"),
    [
        (0.0, 1.0, False),
        (0.0, math.inf, False),  # a scaler of fp16 has passed this step over
        (math.inf, 1.0, True),  # of the last step, after which no loss would tell
        (math.nan, math.nan, True),
    ],
)
def test_lost_weights_end_a_training_whose_loss_is_finite(
    tmp_path: Path, config: TrainingConfig, weight: float, norm: float, stops: bool
) -> None:
    model = torch.nn.Linear(2, 2)
    with torch.no_grad():
        model.weight[1, 0] = weight
    stop, state = StopIfDiverged("m", config), SimpleNamespace(global_step=4, max_steps=4)
    logs = {"loss": 2.0, "grad_norm": norm, "learning_rate": 1e-5}

    def step() -> None:
        stop.on_log(SimpleNamespace(output_dir=tmp_path), state, None, logs=logs, model=model)

    if stops:
        with pytest.raises(
            ConfigError, match=rf"m: .* step 4 of 4: loss 2, gradient norm {norm:g}, learning rate 1e-05"
        ):
            step()
        model.weight.requires_grad_(False)  # what is not trained was the start's
    step()
