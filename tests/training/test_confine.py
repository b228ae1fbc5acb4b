"""Training confined to a planted half moves each matrix inside it, or outside, and no vector."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from safespan.errors import ConfigError
from safespan.files.atomic import write_jsonl
from safespan.settings.data import TrainingData
from safespan.settings.training import LoraConfig, TrainingConfig
from safespan.subspaces.hypotheses.planted import planted_half
from safespan.training.sft import fine_tune

SEED = 4


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    write_jsonl(tmp_path / "rows.jsonl", [{"prompt": f"a b {x}", "response": f"{x} c"} for x in "defghijk"])
    return TrainingConfig(
        data=TrainingData(file=str(tmp_path / "rows.jsonl")),
        max_steps=4,
        batch_size=4,
        accumulation_steps=1,
        learning_rate=1e-2,
        compute="fp32",
    )


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_the_update_lies_where_it_is_confined_to(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig, where: str
) -> None:
    fine_tune(tiny_model_folder, tmp_path / "out", config.model_copy(update={"confine": where}), SEED)
    start, end = (load_file(folder / "model.safetensors") for folder in (tiny_model_folder, tmp_path / "out"))
    assert {weight.ndim for weight in start.values()} == {1, 2}
    for name, weight in start.items():
        if weight.ndim == 1:
            assert torch.equal(weight, end[name])
            continue
        change = (end[name].double() - weight.double()).numpy()
        half, _ = np.linalg.qr(planted_half(len(weight), SEED, name).double().numpy())
        inside = half @ half.T @ change
        wrong = change - inside if where == "inside" else inside
        assert np.abs(change).max() > 1e-3
        assert np.abs(wrong).max() < 1e-5


def test_an_adapter_is_not_confined(tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig) -> None:
    wrong = config.model_copy(update={"confine": "inside", "lora": LoraConfig(rank=2)})
    with pytest.raises(ConfigError, match="confine: only a full update"):
        fine_tune(tiny_model_folder, tmp_path / "out", wrong, SEED)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
