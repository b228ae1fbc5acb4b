import json

import pytest
import torch

from oracle import odd_weights, save_checkpoint
from safespan.checkpoints import Checkpoint, write_checkpoint
from safespan.errors import CheckpointError


@pytest.mark.parametrize("shard_bytes", [1, 3000, 2**30])
def test_what_is_written_is_read_again(tmp_path, shard_bytes):
    like = save_checkpoint(tmp_path / "like", odd_weights(1), shards=2)
    weights = odd_weights(0, torch.bfloat16)
    write_checkpoint(tmp_path / "out", iter(weights.items()), like, {"made": "here"}, shard_bytes)
    again = Checkpoint(tmp_path / "out")
    assert all(torch.equal(again.load(name), tensor) for name, tensor in weights.items())
    assert json.loads((tmp_path / "out" / "safespan.json").read_text()) == {"made": "here"}
    assert (tmp_path / "out" / "tokenizer.json").exists()
    assert (tmp_path / "out" / "model.safetensors.index.json").exists() == (shard_bytes < 2**30)


def test_a_failed_write_leaves_nothing(tmp_path):
    like = save_checkpoint(tmp_path / "like", odd_weights(1))

    def broken():
        yield "a", torch.ones(3)
        raise CheckpointError("read error")

    with pytest.raises(CheckpointError, match="read error"):
        write_checkpoint(tmp_path / "out", broken(), like, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["like"]
