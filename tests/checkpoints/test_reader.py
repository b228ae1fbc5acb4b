import json
import os

import pytest
import torch

from oracle import SHAPES, odd_weights, save_checkpoint
from safespan.checkpoints import Checkpoint
from safespan.errors import CheckpointError


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_reads_every_tensor_as_stored(tmp_path, shards, dtype):
    weights = odd_weights(0, dtype)
    checkpoint = Checkpoint(save_checkpoint(tmp_path / "model", weights, shards))
    assert checkpoint.names == sorted(SHAPES)
    for name, tensor in weights.items():
        assert checkpoint.load(name).dtype == dtype
        assert torch.equal(checkpoint.load(name), tensor)
        assert checkpoint.shapes[name] == SHAPES[name]


def test_a_tied_head_counts_once(tmp_path):
    tied = Checkpoint(save_checkpoint(tmp_path / "tied", odd_weights(0), tied=True))
    assert "lm_head.weight" not in tied.names


def test_hash_follows_the_bytes(tmp_path):
    one = Checkpoint(save_checkpoint(tmp_path / "one", odd_weights(0))).sha256()
    same = Checkpoint(save_checkpoint(tmp_path / "same", odd_weights(0))).sha256()
    other = Checkpoint(save_checkpoint(tmp_path / "other", odd_weights(1))).sha256()
    assert one == same != other


def test_missing_folder(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint at .*nowhere"):
        Checkpoint(tmp_path / "nowhere")


def test_only_safetensors(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="only safetensors"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("size", [0, 5, 200, -1])
def test_truncated_file(tmp_path, size):
    path = save_checkpoint(tmp_path / "model", odd_weights(0)) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        Checkpoint(tmp_path / "model")


def test_missing_shard(tmp_path):
    folder = save_checkpoint(tmp_path / "model", odd_weights(0), shards=2)
    (folder / "model-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-00002.safetensors is missing"):
        Checkpoint(folder)


@pytest.mark.parametrize("name", ["../secret.safetensors", "a/../../secret.safetensors", "/secret.safetensors", "a//b"])
def test_index_must_stay_in_its_folder(name, tmp_path):
    folder = save_checkpoint(tmp_path / "model", odd_weights(0), shards=2)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match="outside its folder"):
        Checkpoint(folder)


def test_shards_in_a_subfolder(tmp_path):
    weights = odd_weights(0)
    checkpoint = Checkpoint(in_subfolder(save_checkpoint(tmp_path / "model", weights, shards=2)))
    assert all(torch.equal(checkpoint.load(name), tensor) for name, tensor in weights.items())


def in_subfolder(folder):
    """The same model with its shards in a subfolder."""
    index = folder / "model.safetensors.index.json"
    (folder / "sub").mkdir()
    for path in folder.glob("*.safetensors"):
        path.rename(folder / "sub" / path.name)
    index.write_text(index.read_text().replace("model-", "sub/model-"))
    return folder


def test_an_adapter_alone(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "org/base"}')
    with pytest.raises(
        CheckpointError, match=rf"an adapter and no model: give MODEL\+ADAPTER, here org/base\+{tmp_path}$"
    ):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_inf_name_the_tensor(tmp_path, value):
    weights = odd_weights(0)
    weights["model.norm.weight"][3] = value
    checkpoint = Checkpoint(save_checkpoint(tmp_path / "model", weights))
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight holds NaN or Inf"):
        checkpoint.load("model.norm.weight")


@pytest.mark.parametrize("how", ["rewritten", "replaced", "gone"])
def test_a_file_that_changes_while_it_is_read(how, tmp_path):
    checkpoint = Checkpoint(save_checkpoint(tmp_path / "model", odd_weights(0)))
    file = tmp_path / "model" / "model.safetensors"
    assert checkpoint.load("model.norm.weight").shape == (12,)
    if how == "gone":
        file.unlink()
    else:
        if how == "replaced":
            file.unlink()
        save_checkpoint(tmp_path / "model", odd_weights(1))
        os.utime(file, ns=(1, 1))
    with pytest.raises(CheckpointError, match=r"model\.safetensors changed while it was read; wait"):
        checkpoint.load("model.norm.weight")
