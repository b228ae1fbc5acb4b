import numpy as np
import pytest
import torch
from families import difference, energy, family_of, oracle_part

from oracle import odd_weights, save_checkpoint
from safespan.checkpoints import Checkpoint, layer_of, module_of
from safespan.errors import CheckpointError, ConfigError
from safespan.projection import Family, sweep
from safespan.settings.analysis import FRACTIONS, ProjectionGrid


@pytest.mark.parametrize("side", ["output", "input", "both"])
@pytest.mark.parametrize(("dtype", "shards", "tied"), [(torch.float32, 1, False), (torch.bfloat16, 3, True)])
def test_energies_and_cosines_agree_with_lapack(tmp_path, side, dtype, shards, tied):
    family = family_of(tmp_path, dtype, shards, tied)
    rows, removed = sweep(family, ProjectionGrid(side=side, methods=("parallel", "orthogonal", "opposite")), seed=0)
    assert len(rows) == 2 * 4 * 3 * 5
    for row in rows:
        if row.subspace not in ("alignment", "safety"):
            continue
        parts, whole = oracle_part(family, row.finetune, row.subspace, row.fraction, side)
        if row.method == "orthogonal":
            parts = {name: whole[name] - part for name, part in parts.items()}
        if row.method == "opposite":
            parts = {name: -part for name, part in parts.items()}
        inner = sum(float((parts[name] * whole[name]).sum()) for name in parts)
        assert row.energy_kept == pytest.approx(energy(parts) / energy(whole), abs=1e-5)
        cosine = inner / (energy(parts) * energy(whole)) ** 0.5
        assert row.cosine_task_projection == pytest.approx(cosine, abs=1e-4)
        alignment = {name: difference(family.base, family.aligned, name) for name in whole}
        inner = sum(float((alignment[name] * whole[name]).sum()) for name in whole)
        expected = inner / (energy(alignment) * energy(whole)) ** 0.5
        assert row.cosine_task_alignment == pytest.approx(expected, abs=1e-4)
    check_parts(family, side, rows, removed)


def check_parts(family, side, rows, removed):
    """What was removed of each module of each layer at one point, and that its parts add up to the whole."""
    point = ("useful", "alignment", "parallel", 0.5)
    own = {(r.layer, r.module): r for r in removed if (r.finetune, r.subspace, r.method, r.fraction) == point}
    parts, whole = oracle_part(family, "useful", "alignment", 0.5, side)
    places = {name: (layer_of(name), module_of(name)) for name in whole}
    assert set(own) == set(places.values())
    for name, place in places.items():
        gone = 1 - (parts[name] ** 2).sum() / (whole[name] ** 2).sum()
        assert own[place].removed_energy == pytest.approx(gone, abs=1e-5)
        assert own[place].share_of_update == pytest.approx((whole[name] ** 2).sum() / energy(whole), abs=1e-6)
    [kept] = [r.energy_kept for r in rows if (r.finetune, r.subspace, r.method, r.fraction) == point]
    assert sum(r.removed_energy * r.share_of_update for r in own.values()) == pytest.approx(1 - kept, abs=1e-9)


def test_parallel_and_orthogonal_add_up(tmp_path):
    rows, _ = sweep(family_of(tmp_path), ProjectionGrid(), seed=3)
    kept = {(r.finetune, r.subspace, r.method, r.fraction): r.energy_kept for r in rows}
    for (label, subspace, method, fraction), value in kept.items():
        if method == "parallel":
            assert value + kept[label, subspace, "orthogonal", fraction] == pytest.approx(1, abs=1e-9)


def test_the_whole_column_space_keeps_everything(tmp_path):
    """E = 1 at f = 1 where m ≤ n and Δ_A has full rank."""
    shapes = {"a": (8, 20), "b": (16, 16)}
    folders = [
        save_checkpoint(
            tmp_path / str(i),
            {n: torch.randn(s, generator=torch.Generator().manual_seed(i)) for n, s in shapes.items()},
        )
        for i in range(3)
    ]
    base, aligned, tuned = map(Checkpoint, folders)
    rows, _ = sweep(Family(base, aligned, {"useful": tuned}), ProjectionGrid(fractions=(1.0,)), seed=0)
    assert [r.energy_kept for r in rows if r.method == "parallel"] == pytest.approx([1, 1, 1], abs=1e-6)


def test_a_random_subspace_keeps_its_share(tmp_path):
    """E ≈ k / m for an isotropic update."""
    weights = [{"w": torch.randn(100, 400, generator=torch.Generator().manual_seed(i))} for i in range(3)]
    base, aligned, tuned = (Checkpoint(save_checkpoint(tmp_path / str(i), w)) for i, w in enumerate(weights))
    grid = ProjectionGrid(subspaces=("random",), methods=("parallel",))
    rows, _ = sweep(Family(base, aligned, {"useful": tuned}), grid, seed=0)
    assert [r.energy_kept for r in rows] == pytest.approx(FRACTIONS, abs=0.02)


def test_a_zero_alignment_update_has_no_subspace(tmp_path):
    weights = odd_weights(0)
    same = Checkpoint(save_checkpoint(tmp_path / "same", weights))
    tuned = Checkpoint(save_checkpoint(tmp_path / "tuned", odd_weights(1)))
    grid = ProjectionGrid(subspaces=("alignment",), fractions=(0.5,))
    rows, _ = sweep(Family(same, same, {"useful": tuned}), grid, seed=0)
    assert [r.energy_kept for r in rows] == [0.0, 1.0]
    assert all(np.isnan(r.cosine_task_alignment) for r in rows)


def test_checkpoints_must_match(tmp_path):
    family = family_of(tmp_path)
    resized = odd_weights(7)
    resized["model.embed_tokens.weight"] = torch.ones(51, 12)
    other = Checkpoint(save_checkpoint(tmp_path / "resized", resized))
    with pytest.raises(CheckpointError, match=r"model\.embed_tokens\.weight has shape \[50, 12\].*\[51, 12\]"):
        sweep(Family(family.base, family.aligned, {"useful": other}), ProjectionGrid(), 0)
    lacking = odd_weights(7)
    del lacking["model.norm.weight"]
    other = Checkpoint(save_checkpoint(tmp_path / "lacking", lacking))
    with pytest.raises(CheckpointError, match=r"tensor model\.norm\.weight is in .*aligned but not in .*lacking"):
        sweep(Family(family.base, family.aligned, {"useful": other}), ProjectionGrid(), 0)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"fractions": (0.0,)}, "fraction 0.0 is outside"),
        ({"methods": ("sideways",)}, "unknown method 'sideways'"),
        ({"subspaces": ("top",)}, "unknown claim 'top'"),
        ({"subspaces": ("safety",)}, "needs a safe model"),
        (
            {"subspaces": ("task-update",)},
            "'task-update' is a subspace of each fine-tune's own update, .*: test it inst",
        ),
    ],
)
def test_bad_grids(tmp_path, asked, message):
    with pytest.raises(ConfigError, match=message):
        sweep(family_of(tmp_path, safe=False), ProjectionGrid(**asked), 0)
