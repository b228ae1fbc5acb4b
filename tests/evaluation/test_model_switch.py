import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from safespan.checkpoints import Checkpoint
from safespan.errors import CheckpointError
from safespan.evaluation import ModelUnderTest, WeightSwitch, load_model

EMBEDDING = "model.embed_tokens.weight"
NORM = "model.norm.weight"


@pytest.fixture
def model(tiny_model_folder: Path) -> ModelUnderTest:
    return load_model(Checkpoint(tiny_model_folder))


def logits(model: ModelUnderTest) -> torch.Tensor:
    with torch.no_grad():
        return model.model(torch.tensor([[1, 4, 6, 7, 5]])).logits


def test_restores_bit_for_bit_and_keeps_addresses(model: ModelUnderTest, tiny_model_folder: Path) -> None:
    stored = load_file(tiny_model_folder / "model.safetensors")
    before, address = logits(model), model.model.get_input_embeddings().weight.data_ptr()
    with WeightSwitch(model.model) as switch:
        switch.set((name, tensor.double() * 1.7 + 0.1) for name, tensor in stored.items())
        assert not torch.allclose(logits(model), before, atol=1e-2)
    assert torch.equal(logits(model), before)
    for name, tensor in model.model.state_dict().items():
        assert torch.equal(tensor, stored[EMBEDDING if name == "lm_head.weight" else name])
    assert model.model.get_input_embeddings().weight.data_ptr() == address


def test_a_tied_head_follows_the_embedding(model: ModelUnderTest, tiny_model_folder: Path) -> None:
    assert "lm_head.weight" not in load_file(tiny_model_folder / "model.safetensors")
    switch = WeightSwitch(model.model)
    switch.set([(EMBEDDING, torch.zeros_like(model.model.get_input_embeddings().weight))])
    assert logits(model).abs().max() == 0


def test_a_set_starts_from_the_models_own_weights(model: ModelUnderTest) -> None:
    state = model.model.state_dict()
    own = state[EMBEDDING].clone()
    switch = WeightSwitch(model.model)
    switch.set([(EMBEDDING, own + 1)])
    switch.set([(NORM, state[NORM] * 2)])
    assert torch.equal(state[EMBEDDING], own)
    assert torch.equal(state[NORM], torch.full_like(state[NORM], 2))


def test_weights_are_cast_to_the_models_dtype(tiny_model_folder: Path, tmp_path: Path) -> None:
    half = shutil.copytree(tiny_model_folder, tmp_path / "half")
    stored = {name: tensor.bfloat16() for name, tensor in load_file(half / "model.safetensors").items()}
    save_file(stored, half / "model.safetensors", metadata={"format": "pt"})
    config = (half / "config.json").read_text()
    (half / "config.json").write_text(config.replace('"float32"', '"bfloat16"'))
    torch_model = load_model(Checkpoint(half)).model
    state = torch_model.state_dict()
    assert torch.equal(state[EMBEDDING], stored[EMBEDDING])
    weights = stored[EMBEDDING].float() + 0.3
    WeightSwitch(torch_model).set([(EMBEDDING, weights)])
    assert torch.equal(state[EMBEDDING], weights.bfloat16())


def test_refuses_unknown_names_and_shapes(model: ModelUnderTest) -> None:
    before = logits(model)
    with (
        pytest.raises(CheckpointError, match="no tensor named nonsense"),
        WeightSwitch(model.model) as switch,
    ):
        switch.set([(NORM, torch.zeros(16)), ("nonsense", torch.zeros(1))])
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight: given shape \[3\]"):
        WeightSwitch(model.model).set([(NORM, torch.zeros(3))])
    assert torch.equal(logits(model), before)


def test_broken_checkpoints(tiny_model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_model(Checkpoint(tmp_path / "none"))
    weights = load_file(tiny_model_folder / "model.safetensors")
    lacking = shutil.copytree(tiny_model_folder, tmp_path / "lacking")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, lacking / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacking lacks model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(Checkpoint(lacking))
    cut = shutil.copytree(tiny_model_folder, tmp_path / "cut")
    content = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        load_model(Checkpoint(cut))
