import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from safespan.activations import separation
from safespan.activations.separation import auroc

SCORES = st.lists(st.integers(-4, 4), min_size=1, max_size=12)


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@given(SCORES, SCORES)
def test_auroc_is_scikit_learns_with_ties_counted_half(positive: list[int], negative: list[int]) -> None:
    labels = [1] * len(positive) + [0] * len(negative)
    expected = roc_auc_score(labels, positive + negative)
    assert auroc(np.array(positive, float), np.array(negative, float)) == pytest.approx(expected)


def test_two_normal_classes_are_told_apart_as_well_as_their_distance_allows() -> None:
    useful, harmful = normal(3000, 4, 0), normal(3000, 4, 1)
    harmful[:, 2] += 1.5
    # Isotropic classes: both readers are the best there is, with AUROC Φ(distance / √2).
    best = stats.norm.cdf(1.5 / 2**0.5)
    row = separation(useful, harmful)
    for reader in ("probe", "mean_difference"):
        auroc, low, high = (getattr(row, f"{reader}_auroc{end}") for end in ("", "_low", "_high"))
        assert auroc == pytest.approx(best, abs=0.015)
        assert low < auroc < high
        assert high - low == pytest.approx(0.023, abs=0.01)
    # Of 4 coordinates with variance 1, distance 1.5 against √4.
    assert row.mean_difference_ratio == pytest.approx(0.75, abs=0.04)
    assert (row.n_useful, row.n_harmful, row.folds) == (3000, 3000, 5)


def test_a_probe_looks_past_a_loud_coordinate_where_the_difference_of_means_does_not() -> None:
    useful, harmful = normal(1000, 2, 0), normal(1000, 2, 1)
    harmful[:, 0] += 3
    both = torch.cat([useful, harmful])
    both[:, 1] = 20 * both[:, 1] + 20 * both[:, 0]  # correlated noise, far louder
    row = separation(both[:1000], both[1000:])
    best = LinearDiscriminantAnalysis().fit(both.numpy(), np.arange(2000) >= 1000)
    assert row.probe_auroc == pytest.approx(
        roc_auc_score(np.arange(2000) >= 1000, best.decision_function(both.numpy())), abs=0.01
    )
    assert row.mean_difference_auroc < row.probe_auroc - 0.02


def test_held_out_means_that_noise_is_not_learnt() -> None:
    # 40 prompts in 200 dimensions: any labels can be fitted without error.
    rows = [separation(normal(20, 200, seed), normal(20, 200, seed + 50)) for seed in range(12)]
    for reader in ("probe", "mean_difference"):
        assert np.mean([getattr(row, f"{reader}_auroc") for row in rows]) == pytest.approx(0.5, abs=0.12)


def test_equal_prompts_are_never_on_both_sides() -> None:
    # Random labels, every prompt four times over: a reader that had seen its copies would know them all.
    aurocs = [
        separation(normal(10, 60, seed).repeat(4, 1), normal(10, 60, seed + 50).repeat(4, 1)).probe_auroc
        for seed in range(12)
    ]
    assert np.mean(aurocs) == pytest.approx(0.5, abs=0.15)


def test_moving_and_turning_all_activations_changes_nothing_for_the_difference_of_means() -> None:
    useful, harmful = normal(30, 5, 0).double(), normal(25, 5, 1).double() + 0.5
    turn = torch.linalg.qr(normal(5, 5, 2).double()).Q
    plain, moved = separation(useful, harmful), separation(3 * useful @ turn + 7, 3 * harmful @ turn + 7)
    for name in ("mean_difference_auroc", "mean_difference_ratio"):
        assert getattr(moved, name) == pytest.approx(getattr(plain, name))


@pytest.mark.parametrize("useful", [torch.ones(1, 3), torch.ones(4, 3)])
def test_with_one_prompt_nothing_is_held_out(useful: torch.Tensor) -> None:
    row = separation(useful, normal(6, 3, 0))
    assert row.folds == 0
    assert np.isnan([row.probe_auroc, row.mean_difference_auroc_low]).all()
    assert row.mean_difference_ratio > 0
