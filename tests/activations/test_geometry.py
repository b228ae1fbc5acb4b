import numpy as np
import pytest
import torch

from safespan.activations import activation_overlap
from safespan.errors import ConfigError


def oracle(useful: np.ndarray, harmful: np.ndarray, energy: float) -> tuple[int, int, float, float]:
    bases = []
    for rows in (useful, harmful):
        left, values, _ = np.linalg.svd(rows.T.astype(np.float64), full_matrices=False)
        share = np.cumsum(values**2) / np.sum(values**2)
        bases.append(left[:, : int(np.searchsorted(share, energy)) + 1])
    k_useful, k_harmful = (basis.shape[1] for basis in bases)
    mso = np.linalg.norm(bases[0].T @ bases[1]) ** 2 / min(k_useful, k_harmful)
    return k_useful, k_harmful, mso, max(k_useful, k_harmful) / useful.shape[1]


@pytest.mark.parametrize("centered", [True, False])
def test_agrees_with_lapack(centered: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    useful = torch.randn(40, 12, generator=generator) + 2
    harmful = torch.randn(9, 12, generator=generator) * torch.arange(1, 13) - 1
    pair = [rows.numpy() - (rows.numpy().mean(0) if centered else 0) for rows in (useful, harmful)]
    energies = [0.01, 0.3, 0.6, 0.9]
    for energy, row in zip(energies, activation_overlap(useful, harmful, energies, centered), strict=True):
        assert (row.k_x, row.k_y, row.mso, row.mso_random) == pytest.approx(oracle(*pair, energy), abs=1e-6)


def test_a_shared_mean_alone_makes_overlap() -> None:
    generator = torch.Generator().manual_seed(0)
    useful, harmful = (torch.randn(200, 64, generator=generator) + 10 for _ in range(2))
    raw, centred = (activation_overlap(useful, harmful, [0.5], centered)[0] for centered in (False, True))
    assert raw.k_x == 1
    assert raw.mso > 0.99
    assert centred.mso == pytest.approx(centred.mso_random, abs=0.1)


def test_energy_outside_range() -> None:
    with pytest.raises(ConfigError, match=r"1\.5"):
        activation_overlap(torch.eye(3), torch.eye(3), [1.5])
