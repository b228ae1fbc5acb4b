"""The safety residual space against NumPy's least squares and singular vectors."""

import numpy as np
import pytest
import torch

from claims import captured, claimed, gaussian
from oracle import exact
from safespan.errors import DataError
from safespan.subspaces import find_hypothesis
from safespan.subspaces.hypotheses.safety_residual import middle_layer

D = 8
WRITER, READER, EMBEDDING = "model.layers.0.mlp.down_proj.weight", "model.layers.0.mlp.up_proj.weight", "wte.weight"


def rows(prompts: int, layers: int = 4, moved: float = 1.0) -> dict[str, torch.Tensor]:
    """Streams of base, and of the aligned model: a linear map of them, a constant and noise."""
    kept, turn = {}, torch.eye(D) + 0.3 * gaussian(D, D, seed=90)
    for number, kind in enumerate(("useful", "harmful")):
        for layer in range(1, layers + 1):
            before = gaussian(prompts, D, seed=10 * layer + number)
            after = before @ turn + number + 0.1 * gaussian(prompts, D, seed=10 * layer + number + 5)
            kept[f"base__{kind}__{layer}"] = before
            kept[f"residual__{kind}__{layer}"] = before + moved * (after - before)
    return kept


def by_numpy(given: dict[str, torch.Tensor], layer: int) -> np.ndarray:
    """Right singular vectors of X W − X as columns, W of NumPy's least squares."""
    x, y = (
        np.concatenate([exact(given[f"{of}__{kind}__{layer}"]) for kind in ("useful", "harmful")])
        for of in ("base", "residual")
    )
    w = np.linalg.lstsq(x, y, rcond=None)[0]
    return np.linalg.svd(x @ w - x, full_matrices=False)[2].T


@pytest.mark.parametrize("prompts", [20, 4, 2])
def test_directions_are_those_in_which_the_least_squares_map_moves_base(tmp_path, prompts):
    given = rows(prompts)
    kept, expected = captured(tmp_path, **given), by_numpy(given, 2)
    for name, side, shape in ((WRITER, "left", (D, 12)), (EMBEDDING, "right", (30, D))):
        found = exact(getattr(claimed("safety-residual", name=name, captured=kept, aligned=torch.zeros(shape)), side))
        assert found.shape == (D, min(2 * prompts, D))
        np.testing.assert_allclose(np.abs((found * expected).sum(0)), 1, atol=1e-5)  # up to signs
    assert claimed("safety-residual", name=READER, captured=kept, aligned=torch.zeros(12, D)) is None


def test_the_layer_is_that_of_the_papers_code_at_the_same_depth():
    assert [middle_layer(total) for total in (1, 2, 4, 32)] == [1, 1, 2, 15]


def test_a_remark_says_where_the_map_cannot_miss(tmp_path):
    remark = find_hypothesis("safety-residual").remark
    assert remark(captured(tmp_path, **rows(20))) == ""
    assert remark(captured(tmp_path, **rows(4))).startswith("of 8 prompts in 8 dimensions the linear map fits exactly")


def test_where_alignment_moves_nothing_there_is_no_direction(tmp_path):
    kept = captured(tmp_path, **rows(4, moved=0.0))
    basis = claimed("safety-residual", name=WRITER, captured=kept, aligned=torch.zeros(D, 12))
    assert basis is None


def test_a_file_without_base_is_refused(tmp_path):
    kept = captured(tmp_path, **{name: part for name, part in rows(4).items() if name.startswith("residual")})
    with pytest.raises(DataError, match="activations of base are not in it"):
        claimed("safety-residual", name=WRITER, captured=kept, aligned=torch.zeros(D, 12))
