"""Neurons that safety needs, against the papers' scores in float64 NumPy, weight by weight."""

import numpy as np
import pytest
import torch

from claims import captured, claimed, gaussian
from oracle import exact
from safespan.subspaces.hypotheses.safety_neurons import set_difference

M, N = 12, 30
WRITER, READER = "model.layers.0.mlp.down_proj.weight", "model.layers.0.mlp.up_proj.weight"
WEIGHT = gaussian(M, N, seed=4)
HARMFUL, USEFUL = gaussian(9, N, seed=1) * (1 + gaussian(N, seed=2)) + 3, gaussian(7, N, seed=3) - 2


@pytest.fixture
def kept(tmp_path):
    rows = {f"inputs__harmful__{name}": HARMFUL for name in (WRITER, READER, "lm_head.weight")}
    return captured(tmp_path, **rows, **{name.replace("harmful", "useful"): USEFUL for name in rows})


def numbers(columns: torch.Tensor) -> list[int]:
    """The neurons that unit vectors name, in their order."""
    assert torch.equal(columns.square(), columns)
    assert columns.sum(0).eq(1).all()
    return columns.argmax(0).tolist()


def variance(rows: torch.Tensor) -> list[float]:
    """‖W_:j‖² times the unbiased variance of input j, one at a time."""
    scores = []
    for j in range(N):
        x = exact(rows)[:, j]
        scores.append(sum(w**2 for w in exact(WEIGHT)[:, j]) * sum((x - x.mean()) ** 2) / (len(x) - 1))
    return scores


def wanda(rows: torch.Tensor) -> np.ndarray:
    """|W_ij| ‖X_j‖ of every weight, ‖X_j‖ over the root of the number of prompts."""
    x = exact(rows)
    return np.array(
        [[abs(w) * np.linalg.norm(x[:, j]) / len(x) ** 0.5 for j, w in enumerate(r)] for r in exact(WEIGHT)]
    )


def test_neurons_stand_by_how_much_more_they_vary_on_harmful_prompts(kept):
    basis = claimed("safety-neurons", name=WRITER, captured=kept, aligned=WEIGHT)
    gain = np.array(variance(HARMFUL)) - np.array(variance(USEFUL))
    assert basis.left is None
    assert numbers(basis.right) == [j for j in np.argsort(-gain) if gain[j] > 0]
    assert 0 < basis.right.shape[1] < N
    assert claimed("safety-neurons", name=READER, captured=kept, aligned=WEIGHT) is None


@pytest.mark.parametrize(("claim", "axis"), [("set-difference-neurons", 0), ("fine-grained-neurons", 1)])
def test_neurons_stand_by_wandas_score_without_utilitys_top_tenth(kept, claim, axis):
    safety, utility = (wanda(rows).sum(axis) for rows in (HARMFUL, USEFUL))
    top = sorted(range(len(utility)), key=lambda one: -utility[one])[: -(-len(utility) // 10)]
    expected = [one for one in sorted(range(len(safety)), key=lambda one: -safety[one]) if one not in top]
    for name in (WRITER, READER):
        basis = claimed(claim, name=name, captured=kept, aligned=WEIGHT)
        columns, other = (basis.right, basis.left) if axis == 0 else (basis.left, basis.right)
        assert other is None
        assert numbers(columns) == expected
        assert set(range(len(safety))) - set(expected) == set(top)


@pytest.mark.parametrize("claim", ["safety-neurons", "set-difference-neurons", "fine-grained-neurons"])
def test_outside_the_blocks_and_without_inputs_nothing_is_claimed(kept, claim):
    for name in ("lm_head.weight", "model.layers.1.mlp.down_proj.weight"):
        assert claimed(claim, name=name, captured=kept, aligned=WEIGHT) is None


@pytest.mark.parametrize("claim", ["safety-neurons", "set-difference-neurons"])
def test_what_is_removed_is_whole_columns(kept, claim):
    basis = claimed(claim, name=WRITER, captured=kept, aligned=WEIGHT)
    part = basis.parallel(basis.coefficients(WEIGHT), 3)
    first = numbers(basis.right)[:3]
    torch.testing.assert_close(part[:, first], WEIGHT[:, first], atol=0, rtol=0)
    assert not part[:, [j for j in range(N) if j not in first]].any()


def test_one_prompt_has_no_variance(tmp_path):
    rows = {f"inputs__{kind}__{WRITER}": gaussian(1, N) for kind in ("harmful", "useful")}
    assert claimed("safety-neurons", name=WRITER, captured=captured(tmp_path, **rows), aligned=WEIGHT) is None


def test_equal_scores_keep_the_order_of_the_neurons():
    """Of twenty neurons utility has two."""
    assert set_difference(torch.ones(20), torch.zeros(20)).tolist() == list(range(2, 20))
