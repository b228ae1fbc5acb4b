import json

import pytest
import torch

from oracle import odd_weights, save_checkpoint
from safespan.checkpoints import Checkpoint, write_checkpoint
from safespan.errors import CheckpointError


@pytest.mark.parametrize("shard_bytes", [1, 3000, 2**30])
def test_what_is_written_is_read_again(tmp_path, shard_bytes):
    like = save_checkpoint(tmp_path / "like", odd_weights(1), shards=2)
    (like / "training.json").write_text("how the other model was trained")
    weights = odd_weights(0, torch.bfloat16)
    write_checkpoint(tmp_path / "out", iter(weights.items()), like, {"made": "here"}, shard_bytes)
    again = Checkpoint(tmp_path / "out")
    assert all(torch.equal(again.load(name), tensor) for name, tensor in weights.items())
    assert json.loads((tmp_path / "out" / "safespan.json").read_text()) == {"made": "here"}
    assert (tmp_path / "out" / "tokenizer.json").exists()
    assert not (tmp_path / "out" / "training.json").exists()
    modes = {path.suffix: path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    assert modes[".safetensors"] == modes[".json"]
    assert (tmp_path / "out" / "model.safetensors.index.json").exists() == (shard_bytes < 2**30)


def test_a_failed_write_leaves_nothing(tmp_path):
    like = save_checkpoint(tmp_path / "like", odd_weights(1))

    def broken():
        yield "a", torch.ones(3)
        raise CheckpointError("read error")

    with pytest.raises(CheckpointError, match="read error"):
        write_checkpoint(tmp_path / "out", broken(), like, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["like"]


def test_an_adapter_beside_the_weights_is_not_copied_and_the_tokenizer_of_another_is(tmp_path):
    like = save_checkpoint(tmp_path / "like", odd_weights(1))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.bin"):
        (like / name).write_text("of the one in the folder")
    for name in ("adapter_config.json", "tokenizer.json", "README.md"):
        (adapter / name).write_text("of the other")
    write_checkpoint(tmp_path / "plain", iter(odd_weights(0).items()), like, {})
    write_checkpoint(tmp_path / "out", iter(odd_weights(0).items()), like, {}, adapter=adapter)
    kept = ["config.json", "model.safetensors", "safespan.json", "tokenizer.json"]
    for folder in ("plain", "out"):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == kept
    assert (tmp_path / "plain" / "tokenizer.json").read_text() == "{}"
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "of the other"
