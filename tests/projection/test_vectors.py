"""1-D tensors, which have no subspace: what projections and edits make of them."""

import pytest
import torch

from claims import captured, gaussian, tensor
from oracle import odd_weights, save_checkpoint
from safespan.checkpoints import Checkpoint
from safespan.projection import Family, UpdateWeights
from safespan.projection.tensor import TensorProjection, applied, directions
from safespan.results.claim_tables import UpdatePoint
from safespan.settings.names import HYPOTHESES, NAMED_ONLY
from safespan.subspaces import find_hypothesis

CLAIMS = [find_hypothesis(name) for name in (*HYPOTHESES, *NAMED_ONLY)]
UPDATES = {label: gaussian(12, seed=seed) for seed, label in enumerate(("aligned", "alignment", "safety", "harmful"))}


@pytest.mark.parametrize("name", [claim.name for claim in CLAIMS if claim.kind == "subspace" and claim.line is None])
def test_a_claim_that_does_not_speak_of_them_has_no_part_of_them(name):
    delta = gaussian(12, seed=9)
    projection = TensorProjection(delta, directions(tensor(**UPDATES), name))
    for fraction in (0.01, 0.5, 1.0):
        assert projection.energy(fraction) == 0
        assert torch.equal(applied("parallel", delta, projection.parallel(fraction)), torch.zeros(12))
        assert torch.equal(applied("orthogonal", delta, projection.parallel(fraction)), delta)


@pytest.mark.parametrize("name", [claim.name for claim in CLAIMS if claim.line is not None])
def test_a_claim_about_an_update_projects_them_on_it(name):
    delta, line = gaussian(12, seed=9), UPDATES[str(find_hypothesis(name).line)]
    projection = TensorProjection(delta, directions(tensor(**UPDATES), name))
    expected = (delta.double() @ line.double()) / (line.double() @ line.double()) * line.double()
    torch.testing.assert_close(projection.parallel(0.3).double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", [claim.name for claim in CLAIMS if claim.kind != "subspace"])
def test_an_edit_leaves_them_as_the_fine_tune_made_them(name, tmp_path):
    roles = ("base", "aligned", "useful", "safe", "harmful")
    opened = {role: Checkpoint(save_checkpoint(tmp_path / role, odd_weights(seed))) for seed, role in enumerate(roles)}
    finetuned, nothing = {role: opened[role] for role in ("useful", "harmful")}, captured(tmp_path, none=torch.ones(1))
    family = Family(opened["base"], opened["aligned"], finetuned, opened["safe"], nothing)
    weights = UpdateWeights(family, ["useful"], (1.0,), "output", 0, tmp_path)
    for draw in (None, 0):
        changes = {
            change.name: change.tensor for change in weights.changes(UpdatePoint("useful", name, "edit", 1.0, draw))
        }
        for at in ("model.layers.2.input_layernorm.weight", "model.norm.weight"):
            assert torch.equal(changes[at], family.task_update(at, "useful"))
    weights.close()
