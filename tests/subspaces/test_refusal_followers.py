"""Claims that follow the refusal direction, against their formulas in float64 NumPy."""

import numpy as np
import pytest
import torch

from claims import captured, claimed, gaussian
from oracle import exact
from safespan.subspaces import find_hypothesis

D, L = 8, 5
WRITER, READER, EMBEDDING = "model.layers.0.mlp.down_proj.weight", "model.layers.0.mlp.up_proj.weight", "wte.weight"
SCORES = {1: (-1.0, 2.0, 0.02), 2: (-3.0, 0.5, 0.09), 3: (-2.0, 1.0, 0.03)}
"""Layer -> bypass, induce, divergence: layer 2 leaves the fewest refusals."""


def rows(scores=SCORES, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    """Candidates of each layer, and residual streams of both kinds after each, as tensors of a file."""
    kept = {f"refusal__direction__{layer}": 3 * gaussian(D, seed=layer) for layer in scores}
    kept |= {f"refusal__scores__{layer}": torch.tensor(measured).double() for layer, measured in scores.items()}
    for number, kind in enumerate(("useful", "harmful")):
        kept |= {f"residual__{kind}__{ly}": gaussian(6, D, seed=10 * ly + number) + 2 for ly in range(1, L + 1)}
    return kept | more


def on_each_side(claim: str, kept) -> list[np.ndarray]:
    """The directions of a claim on a matrix that writes to the stream by its outputs, and by its inputs."""
    writer = claimed(claim, name=WRITER, captured=kept, aligned=torch.zeros(D, 12))
    embedding = claimed(claim, name=EMBEDDING, captured=kept, aligned=torch.zeros(30, D))
    assert claimed(claim, name=READER, captured=kept, aligned=torch.zeros(12, D)) is None
    assert writer.right is None
    assert embedding.left is None
    return [exact(writer.left), exact(embedding.right)]


@pytest.mark.parametrize("claim", ["refusal-direction-orthogonal", "refusal-direction-orthogonal-norms"])
def test_the_part_of_the_direction_along_the_harmless_mean_is_left_out(tmp_path, claim):
    """The residual of a least-squares fit of r by the mean."""
    given = rows()
    r, mean = exact(given["refusal__direction__2"]), exact(given["residual__useful__2"]).mean(0)
    rest = r - mean * np.linalg.lstsq(mean[:, None], r, rcond=None)[0]
    for found in on_each_side(claim, captured(tmp_path, **given)):
        np.testing.assert_allclose(found[:, 0], rest / np.linalg.norm(rest), atol=1e-6)
        assert abs(found[:, 0] @ mean) < 1e-6 * np.linalg.norm(mean)


def test_with_norms_kept_the_direction_is_that_of_the_paper_and_rows_are_what_it_is_taken_out_of(tmp_path):
    kept = captured(tmp_path, **rows())
    for plain, found in zip(*(on_each_side(f"refusal-direction{end}", kept) for end in ("", "-norms")), strict=True):
        np.testing.assert_array_equal(plain, found)
    removed = {end: find_hypothesis(f"refusal-direction{end}").removes for end in ("", "-orthogonal", "-norms")}
    assert removed == {"": "weights", "-orthogonal": "weights", "-norms": "rows"}
    assert find_hypothesis("refusal-direction-orthogonal-norms").removes == "rows"


@pytest.mark.parametrize("mean", [torch.zeros(D), 3 * gaussian(D, seed=2)])
def test_of_a_mean_of_zero_nothing_is_left_out_and_a_direction_along_the_mean_is_none(tmp_path, mean):
    kept = captured(tmp_path, **rows(residual__useful__2=mean.expand(6, D)))
    basis = claimed("refusal-direction-orthogonal", name=WRITER, captured=kept, aligned=torch.zeros(D, 12))
    if mean.any():
        assert basis is None
    else:
        plain = claimed("refusal-direction", name=WRITER, captured=kept, aligned=torch.zeros(D, 12))
        torch.testing.assert_close(basis.left, plain.left, atol=1e-6, rtol=0)


FOLLOWERS = ["refusal-direction-orthogonal", "refusal-direction-norms", "refusal-direction-orthogonal-norms"]


@pytest.mark.parametrize("claim", FOLLOWERS)
def test_a_follower_says_what_the_refusal_direction_says_of_its_layer(tmp_path, claim):
    beyond = captured(tmp_path, **rows({1: (-2.0, -0.5, 0.02), 2: (-4.0, 0.5, 0.3)}))
    assert "layer 2, whose ablation leaves the fewest refusals, is taken" in find_hypothesis(claim).remark(beyond)
    none = captured(tmp_path, **rows({}))
    assert "there is no direction" in find_hypothesis(claim).remark(none)
    assert claimed(claim, name=WRITER, captured=none, aligned=torch.zeros(D, 12)) is None


# --- harmfulness, where the instruction ends -------------------------------------------------------------------------


def ends(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    kinds = enumerate(("useful", "harmful"))
    return {f"instruction__{kind}__2": gaussian(6, D, seed=50 + number) + number for number, kind in kinds} | more


def test_harmfulness_is_the_difference_of_means_where_the_instruction_ends(tmp_path):
    given = rows(**ends())
    harmful, useful = (exact(given[f"instruction__{kind}__2"]).mean(0) for kind in ("harmful", "useful"))
    for found in on_each_side("harmfulness-direction", captured(tmp_path, **given)):
        expected = (harmful - useful) / np.linalg.norm(harmful - useful)
        np.testing.assert_allclose(found[:, 0], expected, atol=1e-6)
    assert find_hypothesis("harmfulness-direction").remark(captured(tmp_path, **given)) == ""


def test_where_nothing_follows_the_instruction_a_remark_says_that_both_tokens_are_one(tmp_path):
    given = rows()
    same = {f"instruction__{kind}__2": given[f"residual__{kind}__2"] for kind in ("useful", "harmful")}
    remark = find_hypothesis("harmfulness-direction").remark(captured(tmp_path, **given | same))
    assert "nothing follows the instruction" in remark
    assert "\n" not in remark


def test_where_no_end_is_known_or_no_layer_chosen_there_is_no_harmfulness_direction(tmp_path):
    claim = find_hypothesis("harmfulness-direction")
    for given, says in ((rows(), "does not write every instruction"), (rows({}, **ends()), "there is no direction")):
        kept = captured(tmp_path, **given)
        assert says in claim.remark(kept)
        assert claimed("harmfulness-direction", name=WRITER, captured=kept, aligned=torch.zeros(D, 12)) is None
    same = ends(instruction__harmful__2=ends()["instruction__useful__2"])
    kept = captured(tmp_path, **rows(**same))
    assert claimed("harmfulness-direction", name=WRITER, captured=kept, aligned=torch.zeros(D, 12)) is None
