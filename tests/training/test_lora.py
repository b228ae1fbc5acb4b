"""LoRA: what is trained, and that adapter, merged model and peft agree."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from safespan.checkpoints import Checkpoint, open_checkpoint
from safespan.errors import ConfigError
from safespan.files.atomic import write_jsonl
from safespan.projection import Family, sweep
from safespan.settings.analysis import ProjectionGrid
from safespan.settings.data import TrainingData
from safespan.settings.training import LoraConfig, TrainingConfig
from safespan.training.sft import fine_tune
from tiny_adapter import make_stray
from tiny_model import save_tiny_model


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    write_jsonl(tmp_path / "rows.jsonl", [{"prompt": f"a b {x}", "response": f"{x} c"} for x in "defghijk"])
    return TrainingConfig(
        data=TrainingData(file=str(tmp_path / "rows.jsonl")),
        max_steps=3,
        batch_size=4,
        accumulation_steps=1,
        learning_rate=1e-2,
        compute="fp32",
        lora=LoraConfig(rank=2, alpha=8),
    )


def test_an_adapter_and_the_merged_model_are_the_same_update(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig
) -> None:
    merged = config.model_copy(update={"lora": config.lora.model_copy(update={"merge": True})})
    fine_tune(tiny_model_folder, tmp_path / "adapter", config, 0)
    fine_tune(tiny_model_folder, tmp_path / "merged", merged, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "merged", "rows.jsonl"]
    described = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert described["base_model_name_or_path"] == str(tiny_model_folder)
    start, end = (load_file(folder / "model.safetensors") for folder in (tiny_model_folder, tmp_path / "merged"))
    changed = {name for name in start if not torch.equal(start[name], end[name])}
    assert changed == {name for name in start if "proj" in name}
    factors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    for name in changed:
        a, b = (factors[f"base_model.model.{name.replace('weight', f'lora_{x}.weight')}"] for x in "AB")
        assert a.shape[0] == b.shape[1] == 2
        torch.testing.assert_close(end[name] - start[name], 8 / 2 * b @ a, atol=1e-6, rtol=0)
    ids = AutoTokenizer.from_pretrained(tmp_path / "merged")("a b c", return_tensors="pt")["input_ids"]
    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32)
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    with torch.inference_mode():
        expected = whole(ids).logits
        torch.testing.assert_close(PeftModel.from_pretrained(base, tmp_path / "adapter")(ids).logits, expected)


def test_a_sweep_from_base_and_adapter_has_the_energies_of_the_merged_model(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig
) -> None:
    assert config.lora is not None
    merged = config.model_copy(update={"lora": config.lora.model_copy(update={"merge": True})})
    fine_tune(tiny_model_folder, tmp_path / "adapter", config, 0)
    fine_tune(tiny_model_folder, tmp_path / "merged", merged, 0)
    base, aligned = Checkpoint(save_tiny_model(tmp_path / "base", seed=1)), Checkpoint(tiny_model_folder)
    names = (f"{tiny_model_folder}+{tmp_path / 'adapter'}", str(tmp_path / "merged"))
    family = Family(base, aligned, {name: open_checkpoint(name) for name in names})
    rows, _ = sweep(family, ProjectionGrid(fractions=(0.25, 0.5)), 0)
    energies = [[row.energy_kept for row in rows if row.finetune == name] for name in names]
    assert energies[0] == pytest.approx(energies[1], abs=1e-5)
    assert 0.01 < min(energies[0]) < max(energies[0]) < 0.99


def test_the_modules_that_get_an_adapter_are_chosen(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig
) -> None:
    one = config.model_copy(update={"lora": LoraConfig(rank=1, target_modules=("q_proj",))})
    fine_tune(tiny_model_folder, tmp_path / "out", one, 0)
    names = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert len(names) == 4
    assert all(".q_proj." in name for name in names)


def test_unknown_modules_are_refused(tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig) -> None:
    wrong = config.model_copy(update={"lora": LoraConfig(target_modules=("nose",))})
    with pytest.raises(ConfigError, match=r"training cannot be set up: Target modules .*nose.* not found"):
        fine_tune(tiny_model_folder, tmp_path / "out", wrong, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_start_with_an_adapter_beside_its_weights(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig
) -> None:
    stray, merged = make_stray(tiny_model_folder, tmp_path)
    for start in (stray, merged):
        fine_tune(start, tmp_path / f"from-{start.name}", config, 0)
    one, other = (load_file(tmp_path / f"from-{start.name}" / "adapter_model.safetensors") for start in (stray, merged))
    assert all(torch.equal(one[name], other[name]) for name in other)
    described = json.loads((tmp_path / "from-stray" / "adapter_config.json").read_text())
    assert described["base_model_name_or_path"] == str(stray)
    assert open_checkpoint(f"{stray}+{tmp_path / 'from-stray'}").remarks == Checkpoint(stray).remarks
