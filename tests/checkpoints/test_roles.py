"""Models in the wrong roles: what the norms say, held against those of whole weights."""

from pathlib import Path

import pytest
import torch

from oracle import odd_weights, save_checkpoint
from safespan.checkpoints import Checkpoint, open_checkpoint
from safespan.checkpoints.roles import check_roles
from safespan.errors import CheckpointError, ConfigError
from tiny_adapter import make_adapter
from tiny_model import save_tiny_model

Weights = dict[str, torch.Tensor]


def moved(weights: Weights, seed: int, size: float) -> Weights:
    """Weights with a random update."""
    noise = odd_weights(seed)
    return {name: weight + size * noise[name] for name, weight in weights.items()}


def norm(end: Weights, start: Weights) -> float:
    return sum(float((end[name].double() - start[name].double()).square().sum()) for name in end) ** 0.5


@pytest.fixture
def weights() -> dict[str, Weights]:
    base = odd_weights(0)
    aligned = moved(base, 1, 0.3)
    return {"base": base, "aligned": aligned, "useful": moved(aligned, 2, 0.1), "safe": moved(aligned, 3, 0.9)}


@pytest.fixture
def models(weights, tmp_path) -> dict[str, Checkpoint]:
    return {role: Checkpoint(save_checkpoint(tmp_path / role, tensors)) for role, tensors in weights.items()}


def test_models_in_their_roles(models, caplog):
    ends = {role: models[role] for role in ("useful", "safe")}
    assert check_roles(models["base"], models["aligned"], ends, {"base"}) == []
    assert check_roles(None, models["aligned"], ends, ()) == []
    assert check_roles(None, models["aligned"], {}, ()) == []
    assert caplog.records == []


def test_base_and_aligned_that_are_swapped(models, weights, caplog):
    ends = {role: models[role] for role in ("useful", "safe")}
    remarks = check_roles(models["aligned"], models["base"], ends, {"base"})
    assert [record.message for record in caplog.records] == remarks
    for label, remark in zip(ends, remarks, strict=True):
        to_base, to_aligned = (norm(weights[label], weights[role]) for role in ("aligned", "base"))
        of_alignment = norm(weights["aligned"], weights["base"])
        update = torch.cat([(weights[label][name] - weights["base"][name]).flatten() for name in weights["base"]])
        alignment = torch.cat([(weights["base"][n] - weights["aligned"][n]).flatten() for n in weights["base"]])
        cosine = float(update.double() @ alignment.double()) / (to_aligned * of_alignment)
        assert cosine < -0.1
        assert remark == (
            f"{label} ({models[label].name}) is nearer to base than to aligned, ‖{label} − base‖ = {to_base:.3g} and "
            f"‖{label} − aligned‖ = {to_aligned:.3g}, the cosine of its update with the alignment update is "
            f"{cosine:.3f}: base and aligned may be swapped, or it was tuned from base"
        )


@pytest.mark.parametrize("shards", [1, 3])
def test_base_and_aligned_with_the_same_weights(shards, models, weights, tmp_path):
    same = Checkpoint(save_checkpoint(tmp_path / "same", weights["aligned"], shards))
    with pytest.raises(ConfigError, match=r"same weights, ‖aligned − base‖ = 0: there is no alignment update; give as"):
        check_roles(same, models["aligned"], {"useful": models["useful"]}, {"base"})
    [remark] = check_roles(same, models["aligned"], {"useful": models["useful"]}, ())
    assert remark.endswith("‖aligned − base‖ = 0: there is no alignment update")


def test_a_fine_tune_with_the_weights_of_aligned(models, weights, tmp_path):
    same = Checkpoint(save_checkpoint(tmp_path / "same", weights["aligned"], shards=2))
    for base in (models["base"], None):
        [remark] = check_roles(base, models["aligned"], {"useful": same, "safe": models["safe"]}, ())
        assert remark.endswith("have the same weights, ‖useful − aligned‖ = 0: there is no update")


def test_other_tensors_are_an_error_before_anything_is_read(models, weights, tmp_path):
    other = Checkpoint(save_checkpoint(tmp_path / "other", weights["useful"] | {"more": torch.ones(2, 2)}))
    with pytest.raises(CheckpointError, match="tensor more is in"):
        check_roles(models["base"], models["aligned"], {"useful": other}, {"base"})


@pytest.fixture
def family(tmp_path) -> tuple[Path, Path, Path]:
    """Base, aligned, and an adapter that was trained on aligned."""
    base, aligned = (save_tiny_model(tmp_path / role, seed) for seed, role in enumerate(("base", "aligned")))
    return base, aligned, make_adapter(aligned, tmp_path)


def test_an_adapter_on_the_wrong_model(family):
    base, aligned, adapter = family
    wrong, right = (open_checkpoint(f"{folder}+{adapter}") for folder in (base, aligned))
    apart = sum(float((Checkpoint(base).load(n) - Checkpoint(aligned).load(n)).square().sum()) for n in wrong.names)
    advice = f"its adapter is put on {base}, which is not aligned, ‖{base} − aligned‖ = {apart**0.5:.3g}; if it was"
    advice += f" trained on aligned, give {aligned}+{adapter}"
    [remark] = check_roles(Checkpoint(base), Checkpoint(aligned), {"a": wrong, "b": right}, {"base"})
    assert remark.startswith(f"a ({wrong.name}) is nearer to base than to aligned, ‖a − base‖ = ")
    assert float(remark.partition("alignment update is ")[2].partition(":")[0]) == pytest.approx(-1, abs=2e-3)
    assert remark.endswith(advice)
    [remark] = check_roles(None, Checkpoint(aligned), {"a": wrong, "b": right}, ())
    assert remark.startswith(f"a ({wrong.name}), ‖a − aligned‖ = ")
    assert remark.endswith(advice)


def test_an_adapter_on_a_copy_of_aligned(family, tmp_path):
    base, aligned, adapter = family
    copy = save_checkpoint(tmp_path / "copy", {n: Checkpoint(aligned).load(n) for n in Checkpoint(aligned).names}, 2)
    assert (
        check_roles(Checkpoint(base), Checkpoint(aligned), {"a": open_checkpoint(f"{copy}+{adapter}")}, {"base"}) == []
    )


@pytest.mark.parametrize("role", ["harmful", "safe"])
def test_a_model_with_the_weights_of_aligned_is_refused_where_its_update_is_needed(role, models, weights, tmp_path):
    same = Checkpoint(save_checkpoint(tmp_path / "same", weights["aligned"], shards=2))
    ends = {"useful": models["useful"], role: same}
    for base in (models["base"], None):
        with pytest.raises(ConfigError, match=f"^{role} .* weights, ‖{role} − aligned‖ = 0: there is no update; give"):
            check_roles(base, models["aligned"], ends, {"base", role})
        [remark] = check_roles(base, models["aligned"], ends, {"base", "useful"})
        assert remark.startswith(f"{role} (")
