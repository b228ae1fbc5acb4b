"""Several refusal directions against MiniSom, the library of the paper's code, and against a map known beforehand."""

import numpy as np
import pytest
import torch

from claims import captured, claimed, gaussian
from oracle import exact
from safespan.subspaces import find_hypothesis
from safespan.subspaces.hypotheses import refusal_som as module

D = 8
WRITER, READER, EMBEDDING = "model.layers.0.mlp.down_proj.weight", "model.layers.0.mlp.up_proj.weight", "wte.weight"
CENTRES = 20 * torch.eye(D)[:3]
SIZES = (5, 17, 10)


def rows(harmful: torch.Tensor, layer: int = 1) -> dict[str, torch.Tensor]:
    """A candidate at one layer, and both kinds' streams behind it."""
    return {
        f"refusal__direction__{layer}": gaussian(D),
        f"refusal__scores__{layer}": torch.tensor([-1.0, 1.0, 0.01]).double(),
        f"residual__harmful__{layer}": harmful,
        f"residual__useful__{layer}": gaussian(6, D, seed=7) - 1,
    }


def clusters() -> torch.Tensor:
    """Three groups of harmful prompts, far apart, every prompt of a group the same."""
    return torch.cat([centre.expand(size, D) for centre, size in zip(CENTRES, SIZES, strict=True)])


def test_the_map_is_minisoms():
    """The same first neurons, and prompts in the same order."""
    minisom = pytest.importorskip("minisom", reason="MiniSom is not installed")
    prompts = exact(gaussian(23, D, seed=3))
    som = minisom.MiniSom(
        4, 4, D, sigma=0.33, learning_rate=0.01, topology="hexagonal", activation_distance="euclidean",
        decay_function="asymptotic_decay", sigma_decay_function="asymptotic_decay",
    )  # fmt: skip
    first = module.first_neurons(prompts)
    som._weights = first.reshape(4, 4, D).copy()
    som.train(prompts, 10_000)
    np.testing.assert_allclose(module.trained_map(prompts, first), som.get_weights().reshape(16, D), atol=1e-12)


def test_one_step_moves_the_winner_and_its_neighbours_on_the_hexagonal_grid(monkeypatch):
    """Of neuron (1, 1) six are at a distance of one: two in its row, and two in each row beside it."""
    monkeypatch.setattr(module, "_STEPS", 1)
    first = np.zeros((16, 1))
    first[5] = 0.1
    moved = (module.trained_map(np.ones((1, 1)), first) - first)[:, 0].reshape(4, 4)
    assert moved[1, 1] == pytest.approx(0.01 * 0.9)
    reach = moved / 0.01 / (1 - first.reshape(4, 4))
    six = [reach[0, 1], reach[2, 1], reach[0, 0], reach[1, 0], reach[0, 2], reach[1, 2]]
    np.testing.assert_allclose(six, np.exp(-1 / (2 * 0.33**2)), rtol=1e-9)
    assert np.sort(reach.ravel())[-8] < six[0] / 10


def test_directions_go_from_the_harmless_mean_to_the_groups_of_harmful_prompts_the_largest_first(tmp_path):
    given = rows(clusters())
    kept, centre = captured(tmp_path, **given), exact(given["residual__useful__1"]).mean(0)
    largest_first = [exact(CENTRES[group]) - centre for group in (1, 2, 0)]
    q, r = np.linalg.qr(np.stack(largest_first, 1))
    for name, side, shape in ((WRITER, "left", (D, 12)), (EMBEDDING, "right", (30, D))):
        found = exact(getattr(claimed("refusal-som", name=name, captured=kept, aligned=torch.zeros(shape)), side))
        assert found.shape[1] == 3
        np.testing.assert_allclose(found, q * np.sign(np.diag(r)), atol=0.02)
    assert claimed("refusal-som", name=READER, captured=kept, aligned=torch.zeros(12, D)) is None


def test_prompts_that_are_all_the_same_give_the_difference_of_means(tmp_path):
    given = rows(CENTRES[:1].expand(9, D))
    kept = captured(tmp_path, **given)
    basis = claimed("refusal-som", name=WRITER, captured=kept, aligned=torch.zeros(D, 12))
    difference = exact(CENTRES[0]) - exact(given["residual__useful__1"]).mean(0)
    np.testing.assert_allclose(exact(basis.left), difference[:, None] / np.linalg.norm(difference), atol=1e-6)


def test_the_map_is_trained_once_for_all_matrices(tmp_path, monkeypatch):
    trained, calls = module.trained_map, []
    monkeypatch.setattr(module, "trained_map", lambda *given: calls.append(1) or trained(*given))
    kept = captured(tmp_path, **rows(clusters()))
    for name in (WRITER, WRITER.replace("0", "1")):
        claimed("refusal-som", name=name, captured=kept, aligned=torch.zeros(D, 12))
    assert len(calls) == 1


def test_without_candidates_there_is_no_map(tmp_path):
    kept = captured(tmp_path, residual__useful__1=gaussian(4, D))
    assert claimed("refusal-som", name=WRITER, captured=kept, aligned=torch.zeros(D, 12)) is None
    assert "there is no direction" in find_hypothesis("refusal-som").remark(kept)
