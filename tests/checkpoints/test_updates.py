import psutil
import pytest
import torch

from oracle import odd_weights, save_checkpoint
from safespan.checkpoints import Checkpoint
from safespan.checkpoints.updates import check_memory, update
from safespan.errors import CheckpointError
from safespan.projection import Family, sweep, write_projected
from safespan.settings.analysis import ProjectionGrid


@pytest.fixture
def pair(tmp_path):
    return [Checkpoint(save_checkpoint(tmp_path / str(seed), odd_weights(seed, torch.bfloat16))) for seed in range(2)]


def test_differences_are_taken_in_float32(pair):
    start, end = pair
    for name in start.names:
        delta = update(name, start, end)
        assert delta.dtype == torch.float32
        assert torch.equal(delta, end.load(name).float() - start.load(name).float())


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_one_weight_that_is_no_number_is_found(bad, which, pair, tmp_path):
    weights = odd_weights(5)
    weights["model.embed_tokens.weight"][49, 11] = bad
    pair[which] = Checkpoint(save_checkpoint(tmp_path / "bad", weights))
    with pytest.raises(CheckpointError, match="bad/model.safetensors: tensor model.embed_tokens.weight holds"):
        update("model.embed_tokens.weight", *pair)


def test_the_same_infinity_in_both_is_found(tmp_path):
    weights = odd_weights(5) | {"model.norm.weight": torch.full((12,), torch.inf)}
    same = Checkpoint(save_checkpoint(tmp_path / "same", weights))
    with pytest.raises(CheckpointError, match="model.norm.weight holds NaN or Inf"):
        update("model.norm.weight", same, same)


def test_too_little_memory_is_said_before_anything_is_read(pair, monkeypatch, tmp_path):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 10_000}))
    base, aligned = pair
    family = Family(base, aligned, {"useful": aligned})
    grid = ProjectionGrid(subspaces=("alignment",), methods=("parallel",), fractions=(0.5,))
    says = r"embed_tokens.weight of shape \[50, 12\] needs 1\.89e-05 GB of memory, and 1e-05 GB are free"
    with pytest.raises(CheckpointError, match=says):
        sweep(family, grid, 0)
    with pytest.raises(CheckpointError, match=says):
        write_projected(family, grid, 0, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_figure_is_that_of_the_largest_tensor():
    check_memory({"small": (4, 4), "line": (10,)})
    with pytest.raises(CheckpointError, match=r"tensor huge of shape \[1000000, 200000\] needs 5.92e\+03 GB"):
        check_memory({"small": (4, 4), "huge": (1_000_000, 200_000)})
