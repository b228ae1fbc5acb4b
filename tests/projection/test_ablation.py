"""Ablated weights against an independent computation in float64, on odd shapes, both sides and tied weights."""

from itertools import product

import numpy as np
import pytest
import torch

from oracle import SHAPES, exact, odd_weights, project, save_checkpoint
from safespan.checkpoints import Checkpoint
from safespan.projection import AblationWeights, Family, ablation_points
from safespan.projection.ablation import spaces_of
from safespan.results.claim_tables import AblationPoint
from safespan.subspaces import Basis, find_hypothesis, random_part
from safespan.subspaces.hypothesis import hypothesis

FRACTIONS = (0.1, 0.5, 1.0)
SIDES = ["output", "input", "both"]
WRITERS = {"model.embed_tokens.weight": "input", "model.layers.0.mlp.down_proj.weight": "output"}
"""The matrices of the family that write to a residual stream of 12."""


def direction() -> torch.Tensor:
    columns = torch.randn(12, 2, generator=torch.Generator().manual_seed(5))
    return torch.linalg.qr(columns.double())[0].float()


@hypothesis("one-direction", claim="two directions", paper="https://example.org", removes="weights")
def one_direction(matrix):
    side = WRITERS.get(matrix.name)
    if side is None:
        return None
    return Basis(direction(), None) if side == "output" else Basis(None, direction())


@hypothesis("of-rows", claim="the same two directions, norms kept", paper="https://example.org", removes="rows")
def of_rows(matrix):
    return one_direction.function(matrix)


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    names = {"one-direction": one_direction, "of-rows": of_rows}
    for module in ("safespan.projection.ablation", "safespan.projection.tensor"):
        monkeypatch.setattr(f"{module}.find_hypothesis", lambda name: names.get(name) or find_hypothesis(name))


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def family(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("family")
    base, aligned = (
        Checkpoint(save_checkpoint(folder / role, odd_weights(seed), tied=request.param))
        for seed, role in enumerate(("base", "aligned"))
    )
    return Family(base, aligned, {})


@pytest.fixture
def make(family, tmp_path):
    made = []

    def weights(side="output", seed=0, of=family):
        made.append(AblationWeights(of, FRACTIONS, side, seed, tmp_path))
        return made[-1]

    yield weights
    for each in made:
        each.close()


def changes(weights, point):
    return {name: exact(change.clone()) for name, change, _ in weights.changes(point)}


def loaded(checkpoint):
    return {name: exact(checkpoint.load(name)) for name in checkpoint.names}


def removed(family, name, fraction, side):
    """R_f of one tensor: P_k Δ_A, or Q_k Q_kᵀ W_A on the side of the matrix."""
    aligned, base = loaded(family.aligned), loaded(family.base)
    parts = {}
    for tensor, weight in aligned.items():
        delta = weight - base[tensor]
        if weight.ndim < 2:
            parts[tensor] = np.zeros_like(weight)
        elif name == "alignment":
            parts[tensor] = project(delta, delta, fraction, side)
        else:
            k = min(max(1, round(fraction * min(weight.shape))), 2)
            q = exact(direction())[:, :k]
            part = {"output": lambda w, q=q: q @ q.T @ w, "input": lambda w, q=q: w @ q @ q.T}
            parts[tensor] = part[WRITERS[tensor]](weight) if tensor in WRITERS else np.zeros_like(weight)
    return parts


def matrices(tensor):
    return [] if tensor.ndim < 2 else [tensor] if tensor.ndim == 2 else list(tensor)


def squared(matrix):
    return float((matrix**2).sum())


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ["alignment", "one-direction"])
def test_what_is_removed_is_that_of_float64(family, make, name, side):
    weights = make(side)
    for fraction, strength in product(FRACTIONS, (1.0, 0.25)):
        own = changes(weights, AblationPoint(name, fraction, strength, None))
        assert set(own) == set(SHAPES)  # a tied head is the embedding, and counts once
        for tensor, part in removed(family, name, fraction, side).items():
            np.testing.assert_allclose(own[tensor], -strength * part, atol=2e-5)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ["alignment", "one-direction"])
def test_a_control_removes_the_energy_of_each_matrix_along_other_directions(family, make, name, side):
    weights = make(side)
    for fraction in FRACTIONS[:2]:
        controls = [changes(weights, AblationPoint(name, fraction, 0.5, draw)) for draw in (0, 1)]
        for tensor, part in removed(family, name, fraction, side).items():
            for control in controls:
                for drawn, own in zip(matrices(control[tensor]), matrices(part), strict=True):
                    assert squared(drawn) == pytest.approx(0.25 * squared(own), rel=1e-4)
            if part.ndim < 2 or not part.any():
                assert not controls[0][tensor].any()
            else:
                assert np.abs(controls[0][tensor] - controls[1][tensor]).max() > 1e-3
                assert np.abs(controls[0][tensor] + 0.5 * part).max() > 1e-3


def test_matrices_with_the_same_directions_share_those_of_their_control(make):
    """The embedding's rows and the writer's columns lie in one space, and so does what a control removes of them."""
    drawn = changes(make(), AblationPoint("one-direction", 0.1, 1.0, 0))
    rows = np.linalg.svd(drawn["model.embed_tokens.weight"])[2]
    columns = np.linalg.svd(drawn["model.layers.0.mlp.down_proj.weight"])[0]
    ranks = [np.linalg.matrix_rank(drawn[name], tol=1e-3) for name in WRITERS]
    least = min(ranks)
    assert least >= 1
    smaller, larger = sorted(((rows[: ranks[0]].T, ranks[0]), (columns[:, : ranks[1]], ranks[1])), key=lambda s: s[1])
    inside = larger[0] @ larger[0].T @ smaller[0]
    np.testing.assert_allclose(inside, smaller[0], atol=1e-3)


def test_each_row_keeps_its_norm_where_it_is_asked_of_the_claim_and_of_its_controls(family, make):
    """ŵ of each row without its part, at the length that it had: of float64, by the rows."""
    weights, aligned, q = make(), loaded(family.aligned), exact(direction())
    for fraction, strength in product(FRACTIONS, (1.0, 0.25)):
        own = changes(weights, AblationPoint("of-rows", fraction, strength, None))
        for tensor, weight in aligned.items():
            if tensor not in WRITERS:
                assert not own[tensor].any()
                continue
            k = min(max(1, round(fraction * min(weight.shape))), 2)
            unit = np.stack([row / np.sqrt(row @ row) for row in weight])
            inside = q[:, :k] @ q[:, :k].T
            left = unit - strength * (inside @ unit if WRITERS[tensor] == "output" else unit @ inside)
            new = np.stack([row / np.sqrt(row @ row) * np.sqrt(w @ w) for row, w in zip(left, weight, strict=True)])
            np.testing.assert_allclose(weight + own[tensor], new, atol=2e-5)
    first, second = (changes(weights, AblationPoint("of-rows", 0.1, 1.0, draw)) for draw in (0, 1))
    for tensor, weight in aligned.items():
        assert first[tensor].any() == (tensor in WRITERS)
        if tensor in WRITERS:
            kept = np.linalg.norm(weight + first[tensor], axis=1)
            np.testing.assert_allclose(kept, np.linalg.norm(weight, axis=1), rtol=1e-5)
            assert np.abs(first[tensor] - second[tensor]).max() > 1e-3


def test_a_control_of_rows_takes_the_energy_of_the_unit_rows_out_of_them(family, make):
    weights, aligned = make(), loaded(family.aligned)
    drawn, q = changes(weights, AblationPoint("of-rows", 0.1, 1.0, 0)), exact(direction())[:, :1]
    for tensor, side in WRITERS.items():
        weight = aligned[tensor]
        unit = weight / np.linalg.norm(weight, axis=1, keepdims=True)
        inside = q @ q.T @ unit if side == "output" else unit @ q @ q.T
        new = weight + drawn[tensor]
        turned = new / np.linalg.norm(new, axis=1, keepdims=True)
        basis = Basis(direction(), None) if side == "output" else Basis(None, direction())
        draw = tuple(space and f"of-rows/{space}/0" for space in spaces_of(basis))
        part = exact(random_part(torch.tensor(unit).float(), squared(inside), draw, 0))
        left = unit - part
        np.testing.assert_allclose(turned, left / np.linalg.norm(left, axis=1, keepdims=True), atol=1e-4)
        assert squared(part) == pytest.approx(squared(inside), rel=1e-4)


def test_a_row_that_the_claim_holds_whole_is_taken_out_and_no_rounding_brought_to_its_norm(family, tmp_path):
    """The embedding's first row lies in the direction."""
    tensors = odd_weights(7)
    tensors["model.embed_tokens.weight"][0] = 3 * direction()[:, 0].to(tensors["model.embed_tokens.weight"])
    alone = Family(None, Checkpoint(save_checkpoint(tmp_path / "row", tensors)), {})
    weights = AblationWeights(alone, FRACTIONS, "output", 0, tmp_path)
    own = changes(weights, AblationPoint("of-rows", 0.1, 1.0, None))["model.embed_tokens.weight"]
    weights.close()
    np.testing.assert_allclose(own[0], -3 * exact(direction())[:, 0], atol=2e-3)


def test_no_base_is_needed_where_nothing_of_it_is_claimed(family, make, tmp_path):
    alone = Family(None, family.aligned, {})
    point = AblationPoint("one-direction", 0.1, 1.0, None)
    with_base, without = changes(make(), point), changes(make(of=alone), point)
    for tensor in SHAPES:
        np.testing.assert_array_equal(with_base[tensor], without[tensor])


def test_a_point_has_the_same_bits_in_any_order(make):
    points = [AblationPoint("alignment", fraction, 1.0, draw) for fraction in FRACTIONS for draw in (None, 0)]
    first, second = make(), make()
    forward = {point.name: changes(first, point) for point in points}
    for point in reversed(points):
        for tensor, change in changes(second, point).items():
            np.testing.assert_array_equal(change, forward[point.name][tensor])


def test_points_have_names_of_their_own():
    points = ablation_points(find_hypothesis("alignment"), FRACTIONS, 2)
    assert len(points) == len({point.name for point in points}) == 3 * 3
    assert {point.strength for point in points} == {1.0}
