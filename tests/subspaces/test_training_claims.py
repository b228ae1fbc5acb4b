"""Claims about training alone, against their papers' formulas in float64 NumPy, and what they may not return."""

from itertools import combinations, product

import numpy as np
import pytest
import torch

from claims import SHAPES, captured, claimed, gaussian, tensor
from oracle import exact
from safespan.errors import ConfigError, HypothesisError
from safespan.subspaces import Frozen, Penalty, find_hypothesis, hypothesis

LAYERS, D = 4, 6


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def gap(useful: np.ndarray, harmful: np.ndarray) -> float:
    alike = [cosine(x, y) for x, y in combinations(useful, 2)]
    return float(np.mean(alike) - np.mean([cosine(x, y) for x, y in product(useful, harmful)]))


def streams(folder, useful=5, harmful=3, **layers):
    rows = {
        f"residual__{kind}__{layer}": layers.get(f"{kind}_{layer}", gaussian(count, D, seed=10 * layer + count) + 1)
        for layer in range(1, LAYERS + 1)
        for kind, count in (("useful", useful), ("harmful", harmful))
    }
    return captured(folder, **rows), {name: exact(part) for name, part in rows.items()}


def test_the_score_of_a_block_is_how_much_the_gap_of_cosines_widens_over_it(tmp_path):
    kept, rows = streams(tmp_path)
    gaps = [0.0, *(gap(rows[f"residual__useful__{at}"], rows[f"residual__harmful__{at}"]) for at in range(1, 5))]
    for block in range(LAYERS):
        for name in (f"model.layers.{block}.mlp.up_proj.weight", f"model.layers.{block}.self_attn.q_proj.weight"):
            claim = claimed("safety-layers", name=name, captured=kept, aligned=torch.zeros(3, 7))
            assert claim.score == pytest.approx(gaps[block + 1] - gaps[block], abs=1e-9)
    assert claimed("safety-layers", name="lm_head.weight", captured=kept, aligned=torch.zeros(3, 7)) is None
    deeper = claimed("safety-layers", name="model.layers.4.x.weight", captured=kept, aligned=torch.zeros(3, 7))
    assert deeper is None


def test_without_a_pair_of_prompts_there_are_no_safety_layers(tmp_path):
    kept, _ = streams(tmp_path, useful=1)
    assert claimed("safety-layers", name="h.0.x.weight", captured=kept, aligned=torch.zeros(3, 7)) is None


def test_a_gap_that_never_opens_is_remarked(tmp_path):
    remark = find_hypothesis("safety-layers").remark
    (tmp_path / "open").mkdir()
    opening, _ = streams(tmp_path / "open", useful_1=torch.ones(5, D), harmful_1=-torch.ones(3, D))
    assert remark(opening) == ""
    row = torch.ones(3, D)
    never, _ = streams(tmp_path, **{f"{kind}_{at}": row for kind in ("useful", "harmful") for at in range(1, 5)})
    assert remark(never).startswith("in no block do useful and harmful prompts come apart")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_asft_has_the_approximate_projector_of_safe_lora(shape, scale):
    alignment = scale * gaussian(*shape)
    penalty = claimed("asft", alignment=alignment)
    delta = exact(alignment)
    expected = delta @ delta.T / np.linalg.norm(delta)
    made = exact(penalty.columns) @ np.diag(exact(penalty.values)) @ exact(penalty.columns).T
    np.testing.assert_allclose(made, expected, atol=2e-6 * np.abs(expected).max())


def test_asft_without_an_alignment_update_penalises_the_whole_update():
    penalty = claimed("asft", alignment=torch.zeros(4, 9))
    assert (penalty.columns.shape, penalty.values.shape) == ((4, 0), (0,))


@pytest.mark.parametrize("name", ["safety-layers", "asft"])
def test_they_have_the_training_test_alone(name):
    assert find_hypothesis(name).tests == find_hypothesis(name).authors_tests == ("training",)


EYE = torch.eye(4)[:, :2]


def unchecked(columns: torch.Tensor, values: torch.Tensor) -> Penalty:
    """A penalty past the checks of shapes that run in tests alone."""
    penalty = object.__new__(Penalty)
    object.__setattr__(penalty, "columns", columns)
    object.__setattr__(penalty, "values", values)
    return penalty


@pytest.mark.parametrize(
    ("kind", "message", "returned"),
    [
        ("blocks", "its score is NaN or Inf", Frozen(float("nan"))),
        ("blocks", "returned float, expected Frozen or None", 0.5),
        ("blocks", "returned Penalty, expected Frozen or None", Penalty(EYE, torch.ones(2))),
        ("penalty", "returned Frozen, expected Penalty or None", Frozen(1.0)),
        ("penalty", "columns have shape [6, 2], expected 4 rows and at most 4", unchecked(torch.eye(6)[:, :2], EYE[0])),
        ("penalty", "has [2] values, expected one for each column", unchecked(torch.eye(4), torch.ones(2))),
        ("penalty", "columns are not orthonormal (QᵀQ differs from I by 3)", Penalty(2 * EYE, torch.ones(2))),
        ("penalty", "columns or values hold NaN or Inf", Penalty(EYE, torch.tensor([1.0, float("nan")]))),
    ],
)
def test_what_is_no_score_or_penalty_is_said_in_one_line(kind, message, returned):
    claim = hypothesis("mine", claim="c", paper="p", kind=kind)(lambda matrix: returned)
    with pytest.raises(HypothesisError) as caught:
        claim.evaluate(tensor(name="a.b", aligned=torch.zeros(4, 6)))
    assert str(caught.value).startswith("hypothesis 'mine', tensor a.b: it")
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", ["blocks", "penalty"])
def test_they_remove_nothing(kind):
    with pytest.raises(ConfigError, match=f"of kind {kind} is no subspace: removes and line are of a subspace"):
        hypothesis("mine", claim="c", paper="p", kind=kind, removes="weights")
