"""Claims of the update test that add to a fine-tune or shrink it, against their formulas in float64 NumPy."""

import math

import numpy as np
import pytest
import torch

from claims import SHAPES, captured, claimed, gaussian
from oracle import exact
from safespan.errors import HypothesisError
from safespan.subspaces import find_hypothesis
from safespan.subspaces.hypotheses.lssf import rank_for_entropy

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
