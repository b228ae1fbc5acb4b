from itertools import product

import numpy as np
import pytest
import torch

from oracle import exact, odd_weights, project, save_checkpoint
from safespan.checkpoints import Checkpoint
from safespan.projection import Family, PointWeights
from safespan.results.tables import GridPoint
from safespan.settings.analysis import ProjectionGrid

FRACTIONS = (0.25, 0.5, 0.99)


@pytest.fixture
def family(tmp_path):
    roles = ["base", "aligned", "useful", "harmful"]
    opened = {role: Checkpoint(save_checkpoint(tmp_path / role, odd_weights(seed))) for seed, role in enumerate(roles)}
    return Family(opened["base"], opened["aligned"], {"useful": opened["useful"], "harmful": opened["harmful"]})


@pytest.fixture
def scratch(tmp_path):
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


@pytest.mark.parametrize("side", ["output", "input", "both"])
def test_weights_agree_with_lapack(family, scratch, side):
    weights = PointWeights(family, ProjectionGrid(fractions=FRACTIONS, side=side), scratch)
    for fraction, method in product(FRACTIONS, ("parallel", "orthogonal", "opposite")):
        changes = list(weights.changes(GridPoint("useful", "alignment", method, fraction, 0)))
        assert [change.name for change in changes] == family.names()
        for name, change, sides in changes:
            base, aligned, tuned = (
                exact(c.load(name)) for c in (family.base, family.aligned, family.finetuned["useful"])
            )
            delta = tuned - aligned
            inside = project(delta, aligned - base, fraction, side)
            expected = {"parallel": inside, "orthogonal": delta - inside, "opposite": -inside}[method]
            np.testing.assert_allclose(exact(change), expected, atol=1e-5)
            assert sides == ((False, False) if delta.ndim < 2 else (side != "input", side != "output"))
    weights.close()
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("side", ["output", "both"])
def test_the_same_bits_in_any_order(family, scratch, side):
    grid = ProjectionGrid(fractions=FRACTIONS, side=side)
    points = [
        GridPoint(label, subspace, "orthogonal", fraction, 3)
        for label, subspace, fraction in product(("useful", "harmful"), ("alignment", "random-k", "random"), FRACTIONS)
    ]

    def changes_of(order):
        weights = PointWeights(family, grid, scratch)
        return {point: {name: tensor.clone() for name, tensor, _ in weights.changes(point)} for point in order}

    forwards = changes_of(points)
    shuffled = [points[i] for i in torch.randperm(len(points), generator=torch.Generator().manual_seed(1))]
    for order in (points[::-1], shuffled):
        for point, changes in changes_of(order).items():
            assert changes.keys() == forwards[point].keys() == set(family.names())
            assert all(torch.equal(tensor, forwards[point][name]) for name, tensor in changes.items())


def test_parallel_and_orthogonal_add_up_to_the_update(family, scratch):
    weights = PointWeights(family, ProjectionGrid(fractions=FRACTIONS), scratch)
    for subspace in ("alignment", "random-k", "random"):
        inside, outside = (
            {
                name: tensor.clone()
                for name, tensor, _ in weights.changes(GridPoint("harmful", subspace, method, 0.5, 0))
            }
            for method in ("parallel", "orthogonal")
        )
        for name in family.names():
            aligned, tuned = family.aligned.load(name), family.finetuned["harmful"].load(name)
            torch.testing.assert_close(inside[name] + outside[name], tuned - aligned, atol=1e-5, rtol=0)
