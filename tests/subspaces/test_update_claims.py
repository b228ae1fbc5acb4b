"""Claims of the update test that add to a fine-tune or shrink it, against their formulas in float64 NumPy."""

import math

import numpy as np
import pytest
import torch

from claims import SHAPES, captured, claimed, gaussian
from oracle import exact
from safespan.errors import ConfigError, HypothesisError
from safespan.projection.protection import check_protectable
from safespan.subspaces import find_hypothesis, hypothesis
from safespan.subspaces.hypotheses.lssf import rank_for_entropy
from safespan.subspaces.hypotheses.task_update import median_of_noise, signal_rank, threshold

READER = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize("shape", SHAPES)
def test_resta_subtracts_the_harmful_update(shape):
    """W_T + γ (W_A − W_H) of whole weights, γ = 1, as the paper writes it."""
    aligned, tuned, harmful = (exact(gaussian(*shape, seed=seed)) for seed in range(3))
    edit = claimed(
        "resta", task=gaussian(*shape, seed=1) - gaussian(*shape), harmful=gaussian(*shape, seed=2) - gaussian(*shape)
    )
    np.testing.assert_allclose(aligned + exact(edit.update), tuned + (aligned - harmful), atol=1e-5)


def test_resta_undoes_the_harmful_fine_tune_itself():
    update = gaussian(5, 8)
    assert not claimed("resta", task=update, harmful=update).update.any()
    assert find_hypothesis("resta").missing(set()) == "a harmful fine-tune"
    with pytest.raises(HypothesisError, match="it reads 'harmful', and there is task"):
        claimed("resta", task=update)


@pytest.mark.parametrize(
    ("values", "share", "rank"),
    [
        ([], 0.85, 0),
        ([3.0], 0.85, 1),
        ([1.0] * 10, 0.85, 9),  # each adds a tenth of the entropy
        ([1.0] * 10, 0.8, 8),
        ([1.0] * 4, 1.0, 4),
        ([2.0, 0.0, 0.0], 0.85, 1),
        # p = 1/2, 1/4, 1/8, 1/8 have the entropies ln 2 · (1/2, 1/2, 3/8, 3/8), of 7/4 together.
        ([2.0, 2**0.5, 1.0, 1.0], 0.57, 2),
        ([2.0, 2**0.5, 1.0, 1.0], 0.58, 3),
        ([2.0, 2**0.5, 1.0, 1.0], 0.79, 4),
    ],
)
def test_the_rank_holds_a_share_of_the_entropy(values, share, rank):
    assert rank_for_entropy(torch.tensor(values), share) == rank


def cut(matrix: np.ndarray) -> np.ndarray:
    """The projector on the directions that hold 85 % of the entropy of a matrix, term by term."""
    left, values, _ = np.linalg.svd(matrix, full_matrices=False)
    shares = [value**2 / sum(values**2) for value in values if value > 1e-6]
    terms = [-share * math.log(share) for share in shares]
    rank = next(r for r in range(1, len(terms) + 1) if sum(terms[:r]) >= 0.85 * sum(terms) - 1e-12)
    return left[:, :rank] @ left[:, :rank].T


@pytest.mark.parametrize("shape", SHAPES)
def test_lssf_adds_the_low_rank_part_of_the_safety_vector(tmp_path, shape):
    aligned, task, harmful = (gaussian(*shape, seed=seed) for seed in range(3))
    inputs = gaussian(5, shape[1], seed=4) * torch.logspace(0, -1, shape[1])
    kept = captured(tmp_path, **{f"inputs__harmful__{READER}": inputs})
    given = {"name": READER, "captured": kept, "aligned": aligned, "task": task, "harmful": harmful}
    for claim, decomposed in (("lssf", exact(aligned) @ exact(inputs).T), ("lssf-update", exact(harmful))):
        expected = exact(task) - cut(decomposed) @ exact(harmful)
        np.testing.assert_allclose(exact(claimed(claim, **given).update), expected, atol=1e-5)


def test_lssf_says_nothing_where_there_are_no_outputs_and_adds_nothing_to_no_harm(tmp_path):
    kept = captured(tmp_path, **{f"inputs__harmful__{name}": gaussian(4, 9) for name in (READER, "lm_head.weight")})
    given = {"captured": kept, "aligned": gaussian(6, 9), "task": gaussian(6, 9, seed=1), "harmful": torch.zeros(6, 9)}
    for name in ("lm_head.weight", "model.layers.1.mlp.up_proj.weight"):
        assert claimed("lssf", name=name, **given) is None
    for claim in ("lssf", "lssf-update"):
        assert torch.equal(claimed(claim, name=READER, **given).update, given["task"])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_csulora_is_the_minimum_of_its_penalised_problem(shape, scale):
    """The normal equations of the whole matrix, vectorised: (I + Σ λ_c Π_c) vec Δ' = vec Δ_T."""
    alignment, task = exact(gaussian(*shape)), scale * exact(gaussian(*shape, seed=1))
    left, values, right = np.linalg.svd(alignment, full_matrices=False)
    k = next(k for k in range(1, len(values) + 1) if (values[:k] ** 2).sum() >= 0.9 * (values**2).sum())
    on, across = left[:, :k] @ left[:, :k].T, right[:k].T @ right[:k]
    off, beside = np.eye(shape[0]) - on, np.eye(shape[1]) - across
    aligned = np.kron(on, across)  # of the rows one after another
    others = [np.kron(on, beside) + np.kron(off, across), np.kron(off, beside)]
    energies = [float(task.ravel() @ part @ task.ravel()) for part in (aligned, *others)]
    system = np.eye(task.size) + sum(e / energies[0] * part for e, part in zip(energies[1:], others, strict=True))
    expected = np.linalg.solve(system, task.ravel()).reshape(shape)
    edit = claimed("csulora", alignment=gaussian(*shape), task=scale * gaussian(*shape, seed=1))
    np.testing.assert_allclose(exact(edit.update), expected, atol=1e-5 * scale)
    assert edit.score == pytest.approx(energies[0] / sum(energies), abs=1e-5)


def test_csulora_keeps_what_is_aligned_and_shrinks_the_rest_by_its_energy():
    """Δ_A of rank one, along the first row and column: every entry of Δ_T belongs to one part."""
    alignment = torch.zeros(3, 3)
    alignment[0, 0] = 1
    task = torch.tensor([[2.0, 1.0, 0.0], [1.0, 0.0, 2.0], [0.0, 2.0, 2.0]])
    edit = claimed("csulora", alignment=alignment, task=task)
    # Energies 4, 2 and 12: the parts are multiplied by 1, 4/6 and 4/16.
    shrunk = torch.tensor([[2.0, 2 / 3, 0.0], [2 / 3, 0.0, 0.5], [0.0, 0.5, 0.5]])
    torch.testing.assert_close(edit.update, shrunk)
    assert edit.score == pytest.approx(4 / 18)


def test_csulora_says_nothing_without_an_alignment_update_and_leaves_no_update_as_it_is():
    nothing = torch.zeros(5, 8)
    assert claimed("csulora", alignment=nothing, task=gaussian(5, 8)) is None
    edit = claimed("csulora", alignment=gaussian(5, 8), task=nothing)
    assert torch.equal(edit.update, nothing)
    assert edit.score == 0


def test_the_threshold_is_the_published_one():
    """Of a square matrix 4/√3 and 2.858 medians; else within 0.02 of the cubic that its authors give."""
    assert threshold(1.0) == pytest.approx(4 / 3**0.5)
    assert threshold(1.0) / median_of_noise(1.0) == pytest.approx(2.858, abs=5e-4)
    for ratio in (0.02, 0.1, 0.25, 0.5, 0.75, 0.9):
        cubic = 0.56 * ratio**3 - 0.95 * ratio**2 + 1.82 * ratio + 1.43
        assert threshold(ratio) / median_of_noise(ratio) == pytest.approx(cubic, abs=0.02)


@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.9])
def test_half_of_the_noise_lies_below_its_median(ratio):
    """The density of the law in x itself, summed by the midpoint rule."""
    low, high, median = (1 - ratio**0.5) ** 2, (1 + ratio**0.5) ** 2, median_of_noise(ratio) ** 2
    steps = 400_000
    x = low + (median - low) * (np.arange(steps) + 0.5) / steps
    density = np.sqrt((high - x) * (x - low)) / (2 * np.pi * ratio * x)
    assert density.sum() * (median - low) / steps == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (80, 80)])
@pytest.mark.parametrize("size", [1e-3, 1.0])
def test_what_was_planted_above_the_noise_is_found_the_largest_first(shape, size):
    """Three directions, of 4, 3 and 2 times the largest singular value that noise of this size has."""
    left, right = (np.linalg.qr(exact(gaussian(n, 3, seed=n)))[0] for n in shape)
    edge = sum(n**0.5 for n in shape)
    signal = edge * (left * [4.0, 3.0, 2.0]) @ right.T
    delta = size * (torch.tensor(signal).float() + gaussian(*shape))
    vectors, _, others = np.linalg.svd(exact(delta), full_matrices=False)
    for side, columns in (("output", vectors[:, :3]), ("input", others[:3].T)):
        basis = claimed("task-update", side=side, task=delta)
        found = exact(basis.left if side == "output" else basis.right)
        assert (basis.right if side == "output" else basis.left) is None
        np.testing.assert_allclose(np.abs((found * columns).sum(0)), 1, atol=1e-5)
        assert found.shape == columns.shape
    both = claimed("task-update", side="both", task=delta)
    assert (both.left.shape, both.right.shape) == ((shape[0], 3), (shape[1], 3))


def test_of_pure_noise_nothing_is_learned_and_of_an_adapter_all_is():
    """An update of low rank has no noise: its median singular value is zero, and all its directions count."""
    assert claimed("task-update", task=gaussian(60, 90)).left.shape == (60, 0)
    assert claimed("task-update", task=gaussian(60, 4) @ gaussian(4, 90, seed=1)).left.shape == (60, 4)
    assert claimed("task-update", task=torch.zeros(60, 90)).left.shape == (60, 0)
    assert signal_rank(torch.tensor([5.0, 1.0]), (2, 9)) == 0  # the median of two is their mean
    assert signal_rank(torch.tensor([5.0, 1.0]), (3, 9)) == 1
    assert signal_rank(torch.tensor([5.0, 1.0]), (5, 9)) == 2  # most values are zero


def test_a_subspace_of_the_fine_tune_has_the_update_test_alone():
    claim = find_hypothesis("task-update")
    assert claim.tests == ("update",)
    assert claim.missing(set()) == ""
    with pytest.raises(ConfigError, match="'mine' needs task, and the ablation test has no fine-tune: leave removes"):
        hypothesis("mine", claim="c", paper="p", needs=["task"], removes="weights")
    with pytest.raises(ConfigError, match="'task-update' names no subspace .* has the test update alone; name a hyp"):
        check_protectable("task-update", {"base", "safe", "harmful", "prompts"})
