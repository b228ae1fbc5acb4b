"""Files of protected bases against float64 LAPACK, and what cannot be protected."""

from itertools import combinations

import numpy as np
import psutil
import pytest
import torch
from families import difference, family_of
from safetensors import safe_open

from oracle import exact, odd_weights, project, save_checkpoint
from safespan.checkpoints import Checkpoint
from safespan.errors import CheckpointError, ConfigError
from safespan.projection import Family
from safespan.projection.protected_file import ProtectedBases
from safespan.projection.protection import (
    check_free_memory,
    write_protection,
    write_random_protection,
)
from safespan.subspaces import Basis, decompose, find_hypothesis, hypothesis
from safespan.subspaces.hypotheses.planted import planted_half

STACK = "model.layers.10.mlp.experts.gate_up_proj"
DOWN, Q = "model.layers.0.mlp.down_proj.weight", "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def family(tmp_path):
    return family_of(tmp_path)


def write(family, out, name="alignment", fraction=0.5, side="output", seed=3):
    return write_protection(family, name, fraction, side, seed, out)


def parts(bases: ProtectedBases, tensor: str, delta: torch.Tensor) -> np.ndarray:
    """P Δ of a tensor, in float64."""
    results = []
    for basis, matrix in zip(bases.claims(tensor), delta.double().reshape(-1, *delta.shape[-2:]), strict=True):
        result = exact(matrix)
        if basis.left is not None:
            result = exact(basis.left) @ exact(basis.left).T @ result
        if basis.right is not None:
            result = result @ exact(basis.right) @ exact(basis.right).T
        results.append(result)
    return np.stack(results).reshape(delta.shape)


@pytest.mark.parametrize("side", ["output", "input", "both"])
@pytest.mark.parametrize("fraction", [0.25, 0.5])
def test_the_bases_project_as_lapacks_do(family, tmp_path, fraction, side):
    bases = write(family, tmp_path / "bases", fraction=fraction, side=side)
    matrices = [name for name in family.names() if len(family.aligned.shapes[name]) > 1]
    assert bases.tensors == matrices
    for name in matrices:
        delta = family.task_update(name, "useful")
        expected = project(exact(delta), difference(family.base, family.aligned, name), fraction, side)
        np.testing.assert_allclose(parts(bases, name, delta), expected, atol=1e-4)
    assert (bases.about.hypothesis, bases.about.fraction, bases.about.side, bases.about.seed) == (
        "alignment", fraction, side, 3,
    )  # fmt: skip


def test_the_first_directions_are_taken_in_their_order_and_no_more_than_there_are(family, tmp_path):
    for name, fraction in (("random-k", 0.25), ("planted", 1.0)):
        bases = write(family, tmp_path / name, name, fraction)
        for tensor, expected in ((DOWN, {"random-k": 3, "planted": 6}), (Q, {"random-k": 3, "planted": 6})):
            [basis] = bases.claims(tensor)
            assert basis.left.shape[1] == expected[name]
            [claim] = find_hypothesis(name).evaluate(family.tensor(tensor, "output", 3, decompose))
            columns = claim.left if claim.left_order is None else claim.left[:, claim.left_order]
            assert torch.equal(basis.left, columns[:, : basis.left.shape[1]])


def test_planted_at_fraction_one_is_the_planted_half_of_every_matrix(family, tmp_path):
    bases = write(family, tmp_path / "bases", "planted", 1.0)
    for tensor in bases.tensors:
        for label, basis in zip(bases.labels(tensor), bases.claims(tensor), strict=True):
            m, n = family.aligned.shapes[tensor][-2:]
            assert basis.left.shape == (m, min(m // 2, n))
            assert torch.equal(basis.left, planted_half((m, n), 3, label))


def named(monkeypatch, function, name="mine", **declared):
    """A hypothesis of this name, which the module under test finds."""
    made = hypothesis(name, claim="c", paper="p", **declared)(function)
    monkeypatch.setattr("safespan.projection.protection.find_hypothesis", lambda asked: made)
    return name


def axes(size: int, k: int) -> torch.Tensor:
    return torch.eye(size)[:, :k]


def some_experts(matrix):
    """Nothing of most; of the stack different sides, ranks, and nothing of one expert."""
    m, n = matrix.shape
    sides = {
        f"{STACK}[0]": Basis(axes(m, 2), None),
        f"{STACK}[2]": Basis(axes(m, 1), axes(n, 1)),
        Q: Basis(None, axes(n, 1)),
    }
    return sides.get(matrix.name)


def test_matrices_without_a_claim_are_left_out_also_of_a_stack(family, tmp_path, monkeypatch):
    bases = write(family, tmp_path / "bases", named(monkeypatch, some_experts), 1.0)
    assert bases.tensors == [Q, STACK]
    first, second, third = bases.claims(STACK)
    assert second is None
    assert torch.equal(first.left, axes(16, 2))
    assert first.right is None
    assert torch.equal(third.left, axes(16, 1))
    assert torch.equal(third.right, axes(9, 1))
    [only] = bases.claims(Q)
    assert only.left is None
    with safe_open(tmp_path / "bases", framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert shapes == {f"left/{STACK}": (3, 16, 2), f"right/{STACK}": (3, 9, 1), f"right/{Q}": (12, 1)}
    assert bases.nbytes(STACK) == 4 * 3 * (16 * 2 + 9 * 1)
    random = write_random_protection(tmp_path / "bases", 1, tmp_path / "random")
    assert random.about.ranks == bases.about.ranks


@pytest.mark.parametrize("side", ["output", "input", "both"])
def test_random_bases_have_the_ranks_and_are_orthonormal_and_independent(family, tmp_path, side):
    bases = write(family, tmp_path / "bases", side=side)
    drawn = [write_random_protection(tmp_path / "bases", seed, tmp_path / f"random-{seed}") for seed in (1, 2)]
    again = write_random_protection(tmp_path / "bases", 1, tmp_path / "again")
    assert again.path.read_bytes() == drawn[0].path.read_bytes()
    assert [(d.about.hypothesis, d.about.seed, d.about.side) for d in drawn] == [
        ("random", 1, side),
        ("random", 2, side),
    ]
    columns = []
    for file in (bases, *drawn):
        assert file.about.ranks == bases.about.ranks
        for tensor in file.tensors:
            for basis in file.claims(tensor):
                columns += [exact(part) for part in (basis.left, basis.right) if part is not None]
    for part in columns:
        np.testing.assert_allclose(part.T @ part, np.eye(part.shape[1]), atol=1e-5)
    for one, other in combinations(columns, 2):
        if one.shape == other.shape:  # cosines of independent ones are about k/m
            assert np.linalg.norm(one.T @ other) ** 2 < 0.95 * one.shape[1]


def test_random_bases_are_haar(family, tmp_path):
    """The mean of U Uᵀ over draws is k/m of the identity, and its spread that of a Haar-random subspace."""
    write(family, tmp_path / "bases", fraction=0.25)
    projectors = []
    for seed in range(300):
        [basis] = write_random_protection(tmp_path / "bases", seed, tmp_path / "random").claims(Q)
        projectors.append(exact(basis.left @ basis.left.T))
    m, k = 12, 3
    mean, spread = np.mean(projectors, 0), np.var(projectors, 0)
    np.testing.assert_allclose(mean, k / m * np.eye(m), atol=5 * 0.14 / 300**0.5)
    # Var of a diagonal entry: 2 k (m − k) / (m² (m + 2)) of a Beta(k/2, (m − k)/2).
    assert np.diag(spread).mean() == pytest.approx(2 * k * (m - k) / (m**2 * (m + 2)), rel=0.15)


def shared_direction(matrix):
    """One direction of the residual stream of 12, on whichever side of a matrix it lies."""
    direction = torch.full((12, 1), 12**-0.5)
    sides = {
        DOWN: Basis(direction, None),
        Q: Basis(direction, None),
        "model.embed_tokens.weight": Basis(None, direction),
    }
    return sides.get(matrix.name, Basis(axes(matrix.shape[0], 1), None))


def test_matrices_that_share_a_basis_share_the_random_one(family, tmp_path, monkeypatch):
    write(family, tmp_path / "bases", named(monkeypatch, shared_direction))
    random = write_random_protection(tmp_path / "bases", 5, tmp_path / "random")
    [down], [q], [embedding] = (random.claims(name) for name in (DOWN, Q, "model.embed_tokens.weight"))
    assert torch.equal(down.left, q.left)
    assert torch.equal(down.left, embedding.right)
    [up] = random.claims("model.layers.0.mlp.up_proj.weight")
    assert up.left.shape == (40, 1)
    first, second, third = random.claims(STACK)  # they share the first axis
    assert torch.equal(first.left, second.left)
    assert torch.equal(first.left, third.left)
    assert float((first.left[:12].T @ down.left).abs()) < 0.99


def test_a_tied_head_counts_once(tmp_path):
    tied = family_of(tmp_path, tied=True)
    assert "lm_head.weight" not in write(tied, tmp_path / "bases").tensors


def test_what_cannot_be_protected(family, tmp_path, monkeypatch):
    out = tmp_path / "bases"
    with pytest.raises(ConfigError, match="'lox' names no subspace .* it has the test update alone"):
        write(family, out, "lox")
    alone = Family(None, family.aligned, {})
    with pytest.raises(ConfigError, match="protecting 'alignment' needs a base model"):
        write(alone, out)
    with pytest.raises(ConfigError, match=r"fraction 1.5 is outside \(0, 1\]"):
        write(family, out, fraction=1.5)
    same = Family(family.aligned, family.aligned, {})
    with pytest.raises(ConfigError, match="'alignment' has no direction in any matrix of .*aligned"):
        write(same, out)
    with (
        monkeypatch.context() as patched,
        pytest.raises(ConfigError, match="'mine' is not measurable: it names no matrix"),
    ):
        write(family, out, named(patched, lambda matrix: None))
    everything = lambda matrix: Basis(None, axes(matrix.shape[1], matrix.shape[1]))  # noqa: E731
    wide = save_checkpoint(
        tmp_path / "wide", {n: w for n, w in odd_weights(7).items() if n in (Q, "model.norm.weight")}
    )
    with monkeypatch.context() as patched, pytest.raises(ConfigError, match="'mine' at fraction 1 spans every matrix"):
        write(Family(None, Checkpoint(wide), {}), out, named(patched, everything), 1.0)
    assert not out.exists()


def test_files_that_hold_no_bases(family, tmp_path):
    for path in (tmp_path / "nowhere", family.aligned.folder / "model.safetensors"):
        with pytest.raises(CheckpointError, match="is no file of protected bases"):
            ProtectedBases(path)
    bases = write(family, tmp_path / "bases")
    bases.check_fits(DOWN, (12, 40))
    with pytest.raises(CheckpointError, match=r"made for another model: its left bases of .* are \[12, 6\]"):
        bases.check_fits(DOWN, (13, 40))


def test_too_little_memory_is_one_line(monkeypatch):
    check_free_memory(1000, torch.device("cpu"))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 3_000_000}))
    with pytest.raises(
        ConfigError, match=r"need 4 GB beside the model, and 0.003 GB are free \(cpu\): lower the fraction"
    ):
        check_free_memory(4_000_000_000, torch.device("cpu"))
