from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oracle import mso
from safespan.activations import Resampling, activation_overlap
from safespan.activations.resampling import _basis, _leading, resampled_overlap

ENERGIES = (0.3, 0.7)


def classes(n: int, m: int, d: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scale = 0.6 ** torch.arange(d, dtype=torch.float64)
    return tuple(torch.randn(k, d, generator=generator).double() * scale for k in (n, m))


def centred(rows: np.ndarray) -> np.ndarray:
    return rows - rows.mean(0)


@pytest.mark.parametrize("centered", [False, True])
def test_with_few_prompts_the_p_value_is_that_of_every_relabelling(centered: bool) -> None:
    x, y = classes(4, 3, 5)
    if centered:
        x, y = x - x.mean(0), y - y.mean(0)
    rows = torch.cat([x, y]).numpy()
    *_, p_values = resampled_overlap(x, y, ENERGIES, centered, Resampling(permutations=500, bootstraps=0))
    take = centred if centered else np.asarray
    for energy, p_value in zip(ENERGIES, p_values, strict=True):
        overlaps = [
            mso(take(rows[list(chosen)]).T, take(np.delete(rows, chosen, 0)).T, energy)
            for chosen in combinations(range(7), 4)
        ]
        assert p_value == pytest.approx(np.mean(np.array(overlaps) <= overlaps[0] + 1e-9))


def test_classes_of_one_distribution_overlap_as_much_as_random_groups_and_different_ones_less() -> None:
    p_values = []
    for seed in range(60):
        x, y = classes(30, 20, 8, seed)
        p_values.append(resampled_overlap(x, y, [0.6], False, Resampling(39, 0, seed))[2][0])
    # Uniform on 1/40 … 1 under H0: mean 0.51, standard error 0.037.
    assert np.mean(p_values) == pytest.approx(0.51, abs=0.15)
    assert np.mean(np.array(p_values) <= 0.1) < 0.25
    x, y = classes(30, 20, 8)
    *_, different = resampled_overlap(x, y.flip(1), [0.6], False, Resampling(39, 0))
    assert different == pytest.approx(1 / 40)


def test_the_interval_holds_what_two_large_samples_give() -> None:
    above = torch.triu(torch.full((8, 8), 0.2).double(), 1)
    turn = torch.linalg.matrix_exp(above - above.T)
    x, y = classes(200_000, 200_000, 8, 99)
    truth = mso(x.T.numpy(), (y @ turn).T.numpy(), 0.6)
    held = []
    for seed in range(40):
        x, y = classes(200, 200, 8, seed)
        low, high, _ = resampled_overlap(x, y @ turn, [0.6], False, Resampling(0, 100, seed))
        assert low[0] < high[0]
        held.append(low[0] <= truth <= high[0])
    assert 0.1 < truth < 0.99
    assert np.mean(held) >= 0.85  # of a nominal 0.95, with 40 trials


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(2, 6), st.booleans(), st.integers(0, 99))
def test_interval_and_p_value_are_shares_and_follow_the_seed(n: int, m: int, d: int, centered: bool, seed: int) -> None:
    x, y = classes(n, m, d, seed)
    drawn = resampled_overlap(x, y, ENERGIES, centered, Resampling(9, 9, seed))
    low, high, p_value = drawn
    assert np.all((low >= 0) & (low <= high) & (high <= 1 + 1e-9))
    assert np.all((p_value > 0) & (p_value <= 1))
    again = resampled_overlap(x, y, ENERGIES, centered, Resampling(9, 9, seed))
    assert all(map(np.array_equal, drawn, again))


def test_wide_activations_are_turned_into_their_leading_directions_and_lose_nothing_that_counts() -> None:
    x, y = classes(40, 30, 6)
    wide = torch.linalg.qr(torch.randn(200, 6, generator=torch.Generator().manual_seed(1)).double()).Q.T
    narrow = resampled_overlap(x, y, ENERGIES, False, Resampling(20, 20))
    assert np.allclose(resampled_overlap(x @ wide, y @ wide, ENERGIES, False, Resampling(20, 20)), narrow, atol=1e-4)


def test_energy_outside_the_leading_directions_counts_in_the_ranks() -> None:
    # 150 equally strong directions: 128 of them hold 0.85 of the energy, and η = 0.5 takes 75.
    rows = torch.eye(150).double()
    kept, outside = _leading(rows)
    assert kept.shape == (150, 128)
    assert outside.sum() == pytest.approx(150 - 128)
    assert _basis(kept, outside.sum(), [0.5, 0.99], False)[1].tolist() == [75, 128]


@pytest.mark.parametrize("lonely", [torch.ones(1, 4), torch.zeros(5, 4)])
def test_a_class_without_spread_has_no_interval(lonely: torch.Tensor) -> None:
    [row] = activation_overlap(torch.randn(6, 4), lonely, [0.5], centered=True, resampling=Resampling(9, 9))
    assert all(np.isnan(getattr(row, name)) for name in ("mso", "mso_low", "mso_high", "p_value"))


def test_none_are_drawn_unless_asked_for() -> None:
    x, y = classes(6, 6, 4)
    [row] = activation_overlap(x, y, [0.5])
    assert np.isnan([row.mso_low, row.mso_high, row.p_value]).all()
    [row] = activation_overlap(x, y, [0.5], resampling=Resampling(9, 0))
    assert np.isnan([row.mso_low, row.p_value]).tolist() == [True, False]
