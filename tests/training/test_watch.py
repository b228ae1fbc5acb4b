"""A watch sees the model that would be written, and changes nothing of the training."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from safespan.checkpoints import Checkpoint
from safespan.files.atomic import write_jsonl
from safespan.projection import Family
from safespan.projection.protection import Protection, write_protection
from safespan.settings.data import TrainingData
from safespan.settings.training import LoraConfig, TrainingConfig
from safespan.training.sft import fine_tune
from safespan.training.watch import Watch

LORA = LoraConfig(rank=2, alpha=8, dropout=0.5)


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    write_jsonl(tmp_path / "rows.jsonl", [{"prompt": f"a b {x}", "response": f"{x} c"} for x in "defghijk"])
    return TrainingConfig(
        data=TrainingData(file=str(tmp_path / "rows.jsonl")),
        max_steps=6,
        batch_size=3,
        accumulation_steps=1,
        learning_rate=1e-2,
        compute="bf16",
    )


def protection(folder: Path, model: Path) -> Protection:
    family = Family(None, Checkpoint(model), {})
    return Protection(write_protection(family, "random", 0.5, "output", 0, folder / "bases").path)


@pytest.mark.parametrize("lora", [None, LORA])
def test_the_weights_are_the_same_bits_with_and_without_a_watch(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig, lora: LoraConfig | None
) -> None:
    config, held = config.model_copy(update={"lora": lora}), protection(tmp_path, tiny_model_folder)
    seen: list[tuple[int, int]] = []

    def disturb(model: PreTrainedModel, tokenizer: object, step: int, max_steps: int) -> None:
        torch.manual_seed(0), np.random.seed(0), random.seed(0)
        torch.rand(3), np.random.rand(3), random.random()
        assert isinstance(model, PreTrainedModel)
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
        model.generate(**tokenizer("a b", return_tensors="pt"), max_new_tokens=3, do_sample=True)
        seen.append((step, max_steps))

    fine_tune(tiny_model_folder, tmp_path / "alone", config, 0, protection=held)
    fine_tune(tiny_model_folder, tmp_path / "watched", config, 0, protection=held, watch=Watch(disturb, (0.0, 0.5, 1)))
    assert seen == [(1, 6), (3, 6), (6, 6)]
    file = "adapter_model.safetensors" if lora else "model.safetensors"
    one, two = ((tmp_path / name / file).read_bytes() for name in ("alone", "watched"))
    assert one == two


@pytest.mark.parametrize("lora", [None, LORA])
def test_it_sees_the_model_that_would_be_written(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig, lora: LoraConfig | None
) -> None:
    config, held = config.model_copy(update={"lora": lora}), protection(tmp_path, tiny_model_folder)
    answers = []

    def look(model: PreTrainedModel, tokenizer: object, step: int, max_steps: int) -> None:
        answers.append(model(**tokenizer("a b c", return_tensors="pt")).logits)

    fine_tune(tiny_model_folder, tmp_path / "out", config, 0, protection=held, watch=Watch(look))
    assert len(answers) == 6  # the seven points fall on six steps
    ids = torch.tensor([[6, 7, 8]])
    if lora:
        base = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32)
        written = PeftModel.from_pretrained(base, tmp_path / "out")
    else:
        written = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(answers[-1], written.eval()(ids).logits, atol=1e-6, rtol=0)
        start = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32)(ids).logits
    assert (answers[-1] - start).abs().max() > 0.1
    assert len({float(answer.sum()) for answer in answers}) == 6


def test_it_is_called_after_the_projection(tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig) -> None:
    held, start = protection(tmp_path, tiny_model_folder), load_file(tiny_model_folder / "model.safetensors")
    bases = load_file(held.bases)
    inside = []

    def look(model: PreTrainedModel, tokenizer: object, step: int, max_steps: int) -> None:
        for name, columns in bases.items():
            tensor = name.removeprefix("left/")
            inside.append(float((columns.T @ (model.get_parameter(tensor) - start[tensor])).abs().max()))

    fine_tune(tiny_model_folder, None, config, 0, protection=held, watch=Watch(look))
    assert len(inside) == 6 * len(bases)
    assert max(inside) < 1e-6


def test_without_a_folder_nothing_is_written(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("safespan.training.sft.gettempdir", lambda: str(tmp_path / "temporary"))
    before = sorted(tmp_path.rglob("*"))
    saving = config.model_copy(update={"save_steps": 2})
    record = fine_tune(tiny_model_folder, None, saving, 0)
    assert sorted(tmp_path.rglob("*")) == before
    written = fine_tune(tiny_model_folder, tmp_path / "out", config, 0)
    assert (record.steps, record.final_loss) == (written.steps, written.final_loss)
