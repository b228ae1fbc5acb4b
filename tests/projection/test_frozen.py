"""Which blocks are frozen, penalties in a file, and the random controls of both."""

from itertools import combinations

import numpy as np
import pytest
import torch
from families import difference, family_of

from oracle import exact, save_checkpoint
from safespan.checkpoints import Checkpoint
from safespan.errors import ConfigError
from safespan.projection import Family, coverage
from safespan.projection.frozen import leading_run, random_run
from safespan.projection.protection import check_fields, write_protection, write_random_protection
from safespan.subspaces import Frozen, decompose, find_hypothesis, hypothesis

BLOCKS = 7


@pytest.mark.parametrize("seed", range(20))
def test_the_run_with_the_largest_sum_is_taken(seed):
    scores = dict(enumerate(np.random.default_rng(seed).normal(size=9).tolist()))
    for length in range(1, 10):
        run = leading_run(scores, length / 9)
        assert run == list(range(run[0], run[0] + length))
        sums = [sum(scores[start + i] for i in range(length)) for start in range(10 - length)]
        assert sum(scores[number] for number in run) == pytest.approx(max(sums))


def test_of_equal_runs_the_first_and_of_a_small_share_one_block():
    assert leading_run(dict.fromkeys(range(5), 1.0), 0.4) == [0, 1]
    assert leading_run({0: 0.0, 1: 2.0, 2: 1.0}, 0.01) == [1]
    assert leading_run({}, 0.5) == []
    with pytest.raises(ConfigError, match=r"fraction 1.5 is outside \(0, 1\]"):
        leading_run({0: 1.0}, 1.5)


def test_random_blocks_are_other_runs_each_as_likely():
    drawn = [tuple(random_run(range(8), [2, 3, 4], seed)) for seed in range(1000)]
    counts = {run: drawn.count(run) for run in set(drawn)}
    assert set(counts) == {(start, start + 1, start + 2) for start in range(6)} - {(2, 3, 4)}
    assert all(140 < count < 260 for count in counts.values())  # 200 ± 4.7 standard deviations
    assert random_run(range(8), [2, 3, 4], 3) == random_run(range(8), [2, 3, 4], 3)


def test_random_blocks_of_a_shallow_model_are_any_others():
    drawn = {tuple(random_run(range(4), [0, 1], seed)) for seed in range(200)}
    assert drawn == set(combinations(range(4), 2)) - {(0, 1)}
    assert random_run(range(2), [1], 0) == [0]


@pytest.fixture
def deep(tmp_path):
    """A model of seven blocks with two matrices and a norm each."""
    generator = torch.Generator().manual_seed(0)
    weights = {"model.embed_tokens.weight": torch.randn(11, 4, generator=generator), "model.norm.weight": torch.ones(4)}
    for block in range(BLOCKS):
        weights[f"model.layers.{block}.self_attn.q_proj.weight"] = torch.randn(4, 4, generator=generator)
        weights[f"model.layers.{block}.mlp.up_proj.weight"] = torch.randn(6, 4, generator=generator)
        weights[f"model.layers.{block}.input_layernorm.weight"] = torch.ones(4)
    return Family(None, Checkpoint(save_checkpoint(tmp_path / "deep", weights)), {})


def named(monkeypatch, scores):
    """A claim with these scores of blocks, which the module under test finds."""
    function = lambda matrix: Frozen(float(scores[int(matrix.name.split(".")[2])]))  # noqa: E731
    made = hypothesis("mine", claim="c", paper="p", kind="blocks")(function)
    monkeypatch.setattr("safespan.projection.protection.find_hypothesis", lambda asked: made)
    return made


def test_a_file_of_frozen_blocks_and_its_control(deep, tmp_path, monkeypatch):
    claim = named(monkeypatch, [0, 0, 0, 1, 5, 2, -1])
    made = write_protection(deep, "mine", 0.3, "output", 0, tmp_path / "made")
    assert made.about.frozen == ["4", "5"]  # of 7 blocks round(2.1)
    names = {f"model.layers.{n}.{part}.weight" for n in (4, 5) for part in ("self_attn.q_proj", "mlp.up_proj")}
    assert set(made.tensors) == names
    assert len(made.about.blocks) == BLOCKS
    frozen = [write_random_protection(made.path, seed, tmp_path / "random") for seed in range(30)]
    assert {(len(one.about.frozen), len(one.tensors), one.about.hypothesis) for one in frozen} == {(2, 4, "random")}
    drawn = {tuple(map(int, one.about.frozen)) for one in frozen}
    assert drawn == {(start, start + 1) for start in range(6)} - {(4, 5)}
    covered = coverage(deep, claim, deep.aligned.load, None, 0.3, "output", 0, decompose)
    assert (covered.matrices_named, covered.matrices) == (4, 2 * BLOCKS + 1)
    weights = {name: exact(deep.aligned.load(name)) for name in deep.names()}
    whole = sum((weight**2).sum() for weight in weights.values())
    assert covered.energy_named == pytest.approx(sum((weights[name] ** 2).sum() for name in names) / whole)
    assert np.isnan(covered.energy_held)


def test_every_block_is_not_frozen(deep, tmp_path, monkeypatch):
    named(monkeypatch, [1] * BLOCKS)
    with pytest.raises(ConfigError, match=r"'mine' at fraction 0.95 freezes every block of .*deep \(7\): no block"):
        write_protection(deep, "mine", 0.95, "output", 0, tmp_path / "made")


def c_of(bases, tensor):
    return [exact(p.columns) @ np.diag(exact(p.values)) @ exact(p.columns).T for p in bases.penalties(tensor)]


def test_a_file_of_penalties_and_its_control(tmp_path):
    family = family_of(tmp_path)
    made = write_protection(family, "asft", None, "output", 0, tmp_path / "made", penalty=2.5)
    random = write_random_protection(made.path, 1, tmp_path / "random")
    again = write_random_protection(made.path, 1, tmp_path / "again")
    assert random.path.read_bytes() == again.path.read_bytes()
    assert (made.about.penalty, random.about.penalty, made.about.fraction) == (2.5, 2.5, None)
    assert made.tensors == [name for name in family.names() if len(family.aligned.shapes[name]) > 1]
    for tensor in made.tensors:
        delta = difference(family.base, family.aligned, tensor)
        expected = [part @ part.T / np.linalg.norm(part) for part in delta.reshape(-1, *delta.shape[-2:])]
        own, other = c_of(made, tensor), c_of(random, tensor)
        np.testing.assert_allclose(own, expected, atol=1e-5 * np.abs(expected).max())
        scale = np.abs(own).max()
        np.testing.assert_allclose(np.linalg.eigvalsh(own), np.linalg.eigvalsh(other), atol=1e-5 * scale)
        assert len(own[0]) == 1 or np.abs(np.stack(own) - np.stack(other)).max() > 1e-2 * scale
    covered = coverage(family, find_hypothesis("asft"), family.aligned.load, None, 0.5, "output", 0, decompose)
    assert covered.matrices_named == covered.matrices


@pytest.mark.parametrize(
    ("name", "fraction", "penalty", "keep", "says"),
    [
        ("asft", 0.5, None, "outside", "fraction: 'asft' is a penalty, which has none: leave it out; λ is the field"),
        ("alignment", None, None, "outside", "fraction: protecting 'alignment' needs the share of the directions"),
        ("safety-layers", None, None, "outside", "fraction: protecting 'safety-layers' needs the share of the blocks"),
        ("alignment", 0.5, 1.0, "outside", "penalty: 'alignment' is of kind subspace, and λ is of the kind penalty"),
        ("safety-layers", 0.5, None, "inside", "keep: 'safety-layers' is of kind blocks, which has no inside"),
        ("asft", None, 1.0, "inside", "keep: 'asft' is of kind penalty, which has no inside"),
    ],
)
def test_what_a_kind_does_not_have_is_refused(name, fraction, penalty, keep, says):
    with pytest.raises(ConfigError) as caught:
        check_fields(find_hypothesis(name), fraction, penalty, keep)
    assert str(caught.value).startswith(says)
