"""The weights of a trial against float64 LAPACK, and their controls against the energies of that."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from claims import captured, gaussian
from oracle import exact, odd_weights, project, save_checkpoint
from safespan.checkpoints import Checkpoint
from safespan.errors import ConfigError
from safespan.linalg.stacks import matrix_names
from safespan.projection import Family, PointWeights, UpdateWeights, update_points
from safespan.results.claim_tables import UpdatePoint
from safespan.results.tables import GridPoint
from safespan.settings.analysis import ProjectionGrid
from safespan.subspaces import Basis, RandomRotation, find_hypothesis, hypothesis

FRACTIONS = (0.25, 0.5, 0.9)
SIDES = ["output", "input", "both"]


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    roles = ["base", "aligned", "useful", "harmful", "safe"]
    folder = tmp_path_factory.mktemp("family")
    opened = {role: Checkpoint(save_checkpoint(folder / role, odd_weights(seed))) for seed, role in enumerate(roles)}
    finetuned = {"useful": opened["useful"], "harmful": opened["harmful"]}
    return Family(opened["base"], opened["aligned"], finetuned, opened["safe"])


@pytest.fixture
def make(family, tmp_path):
    made = []

    def trial(finetunes=("useful",), side="output", seed=0):
        made.append(UpdateWeights(family, finetunes, FRACTIONS, side, seed, tmp_path))
        return made[-1]

    yield trial
    for weights in made:
        weights.close()


def changes(weights, point):
    return {name: exact(change.clone()) for name, change, _ in weights.changes(point)}


def updates(family, label="useful"):
    """(Δ_A, Δ_T) of every tensor in float64."""
    loaded = [{name: exact(c.load(name)) for name in family.names()} for c in (family.base, family.aligned)]
    tuned = {name: exact(family.finetuned[label].load(name)) for name in family.names()}
    return {name: (loaded[1][name] - loaded[0][name], tuned[name] - loaded[1][name]) for name in family.names()}


def each(tensor):
    """The matrices of a tensor."""
    return [] if tensor.ndim < 2 else [tensor] if tensor.ndim == 2 else list(tensor)


def squared(tensor):
    return float((tensor**2).sum())


def inside(family, method, fraction, side="output", label="useful"):
    """What the alignment subspace leaves of every tensor's update."""
    parts = {name: (project(task, a, fraction, side), task) for name, (a, task) in updates(family, label).items()}
    return {name: part if method == "parallel" else task - part for name, (part, task) in parts.items()}


@pytest.mark.parametrize("side", SIDES)
def test_own_weights_are_those_of_the_projection_and_lapacks(family, make, tmp_path, side):
    weights, points = make(side=side), PointWeights(family, ProjectionGrid(fractions=FRACTIONS, side=side), tmp_path)
    for method, fraction in product(("parallel", "orthogonal"), FRACTIONS):
        own = changes(weights, UpdatePoint("useful", "alignment", method, fraction, None))
        projected = changes(points, GridPoint("useful", "alignment", method, fraction, 0))
        expected = inside(family, method, fraction, side)
        for name in family.names():
            np.testing.assert_array_equal(own[name], projected[name])
            np.testing.assert_allclose(own[name], expected[name], atol=1e-5)
    points.close()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("method", ["parallel", "orthogonal"])
def test_a_control_has_the_energy_of_each_matrix_and_other_directions(family, make, method, side):
    weights = make(side=side)
    for fraction in FRACTIONS:
        own = inside(family, method, fraction, side)
        controls = [changes(weights, UpdatePoint("useful", "alignment", method, fraction, draw)) for draw in (0, 1)]
        for name, expected in own.items():
            for control in controls:
                if expected.ndim < 2:
                    np.testing.assert_allclose(control[name], expected, atol=1e-5)
                for part, matrix in zip(each(control[name]), each(expected), strict=True):
                    assert squared(part) == pytest.approx(squared(matrix), rel=1e-5)
            if expected.ndim > 1:
                assert np.abs(controls[0][name] - controls[1][name]).max() > 1e-2
                assert np.abs(controls[0][name] - expected).max() > 1e-2


@pytest.mark.parametrize(
    ("claim", "method"), [("alignment", "parallel"), ("alignment", "orthogonal"), ("safelora-projector", "edit")]
)
def test_a_control_is_a_random_projection_or_what_is_left_of_it(family, make, claim, method):
    weights = make(seed=2)
    own, controls = (changes(weights, UpdatePoint("useful", claim, method, 0.5, draw)) for draw in (None, 1))
    for name, (_, task) in updates(family).items():
        labels = matrix_names(name, task.shape)
        for label, kept, control, t in zip(labels, each(own[name]), each(controls[name]), each(task), strict=False):
            share = squared(kept) / squared(t)
            drawn = 1 - share if method == "orthogonal" else share
            q = exact(RandomRotation(len(t), 2, f"{claim}/{label}/1/output").apply(torch.eye(len(t))))
            q = q[: max(1, round(drawn * len(t)))]
            expected = q.T @ q @ t * (drawn * squared(t) / squared(q @ t)) ** 0.5
            if method == "orthogonal":
                expected = t - expected
                expected *= (share * squared(t) / squared(expected)) ** 0.5
            np.testing.assert_allclose(control, expected, atol=1e-4)


@pytest.mark.parametrize("method", ["parallel", "orthogonal"])
def test_two_fine_tunes_share_what_their_controls_keep(family, make, method):
    weights, labels = make(("useful", "harmful")), ("useful", "harmful")
    own = {label: inside(family, method, 0.5, label=label) for label in labels}
    whole = {label: updates(family, label) for label in labels}
    controls = {label: changes(weights, UpdatePoint(label, "alignment", method, 0.5, 0)) for label in labels}
    for name in family.names():
        matrices = zip(*(each(part[label][name]) for part in (own, controls) for label in labels), strict=True)
        deltas = zip(*(each(whole[label][name][1]) for label in labels), strict=True)
        for (own_u, own_h, controls_u, controls_h), (delta_u, delta_h) in zip(matrices, deltas, strict=True):
            share = (squared(own_u) + squared(own_h)) / (squared(delta_u) + squared(delta_h))
            assert squared(controls_u) == pytest.approx(share * squared(delta_u), rel=1e-5)
            assert squared(controls_h) == pytest.approx(share * squared(delta_h), rel=1e-5)


def c_of(alignment):
    return alignment @ alignment.T / np.linalg.norm(alignment)


def edited(family, claim, fraction):
    """Δ' of every tensor: the matrices with the lowest cosines are edited."""
    edits, cosines = {}, {}
    for name, (alignment, task) in updates(family).items():
        safety = exact(family.safe.load(name)) - exact(family.aligned.load(name))
        matrices = each(alignment), each(task), each(safety)
        for label, a, t, s in zip(matrix_names(name, task.shape), *matrices, strict=False):
            mapped = c_of(a) @ t
            cosines[label] = (mapped * t).sum() / np.linalg.norm(mapped) / np.linalg.norm(t)
            edits[label] = mapped if claim == "safelora" else 0.8 * t + 0.2 * s
    chosen = sorted(cosines, key=cosines.get)[: round(fraction * len(cosines))]
    assert len(cosines) == 7  # four matrices and three experts
    result = {}
    for name, (_, task) in updates(family).items():
        result[name] = task.copy()
        for label, matrix in zip(matrix_names(name, task.shape), each(result[name]), strict=False):
            if label in chosen:
                matrix[:] = edits[label]
    return result


@pytest.mark.parametrize("claim", ["safelora", "safemerge"])
def test_the_share_of_the_layers_with_the_lowest_scores_is_edited(family, make, claim):
    weights = make()
    for fraction in (*FRACTIONS, 1.0):
        expected = edited(family, claim, fraction)
        own = changes(weights, UpdatePoint("useful", claim, "edit", fraction, None))
        control = changes(weights, UpdatePoint("useful", claim, "edit", fraction, 0))
        assert any(np.abs(expected[name] - task).max() > 0.1 for name, (_, task) in updates(family).items())
        for name, values in expected.items():
            np.testing.assert_allclose(own[name], values, atol=1e-4 * np.abs(values).max())
            if values.ndim < 2:
                np.testing.assert_array_equal(control[name], own[name])
            for part, matrix in zip(each(control[name]), each(values), strict=True):
                assert squared(part) == pytest.approx(squared(matrix), rel=1e-5)


def test_an_addition_grows_with_the_fraction_and_its_control_turns_it(family, make):
    weights = make(seed=5)
    for fraction in FRACTIONS:
        edits, control = (changes(weights, UpdatePoint("useful", "lox", "edit", fraction, draw)) for draw in (None, 1))
        for name, (alignment, task) in updates(family).items():
            labels = matrix_names(name, task.shape)
            if task.ndim < 2:
                np.testing.assert_allclose(edits[name], task, atol=1e-6)
                np.testing.assert_array_equal(edits[name], control[name])
            for label, a, t, own, turned in zip(
                labels, *(each(x) for x in (alignment, task, edits[name], control[name])), strict=False
            ):
                left, values, right = np.linalg.svd(a, full_matrices=False)
                added = fraction * 1.25 * (left[:, :6] * values[:6]) @ right[:6]
                np.testing.assert_allclose(own, t + added, atol=1e-5)
                q = exact(RandomRotation(len(t), 5, f"lox/{label}/1/output").apply(torch.eye(len(t))))
                np.testing.assert_allclose(turned, t + q @ added, atol=1e-4)
                assert squared(turned - t) == pytest.approx(squared(added), rel=1e-5)
                assert np.abs(turned - own).max() > 1e-2


CLAIMS = ["alignment", "random-k", "harmful-update", "safelora", "lox"]


@pytest.mark.parametrize("side", ["output", "both"])
def test_the_same_bits_in_any_order(make, side):
    labels = ("useful", "harmful")
    points = [p for c in CLAIMS for p in update_points(find_hypothesis(c), labels, FRACTIONS[:2], 2)]

    def bits(order):
        weights = make(labels, side, seed=3)
        return {point: changes(weights, point) for point in order}

    forwards = bits(points)
    picked = torch.randperm(len(points), generator=torch.Generator().manual_seed(1))[:20].tolist()
    for point, again in bits([points[i] for i in picked]).items():
        for name, change in again.items():
            np.testing.assert_array_equal(change, forwards[point][name])


def test_a_control_lies_on_the_side_of_each_tensors_basis(family, tmp_path):
    """The refusal direction: in the rows of the embedding, the outputs of one matrix, and nowhere else."""
    found = 3 * gaussian(12)
    kept = captured(tmp_path, refusal__direction__1=found, refusal__scores__1=torch.tensor([-5.0, 1.0, 0.01]).double())
    weights = UpdateWeights(replace(family, captured=kept), ["useful"], FRACTIONS, "output", 0, tmp_path)
    direction = exact(found)[:, None] / np.linalg.norm(exact(found))
    own, control = (
        changes(weights, UpdatePoint("useful", "refusal-direction", "parallel", 0.5, draw)) for draw in (None, 0)
    )
    written = {"model.embed_tokens.weight": "input", "model.layers.0.mlp.down_proj.weight": "output"}
    for name, (_, task) in updates(family).items():
        if task.ndim < 2:
            continue
        if name not in written:
            assert not own[name].any()
            assert not control[name].any()
            continue
        turned = task.T if written[name] == "input" else task
        part = direction @ direction.T @ turned
        q = exact(RandomRotation(12, 0, f"refusal-direction/{name}/0/{written[name]}").apply(torch.eye(12)))
        q = q[: max(1, round(squared(part) / squared(task) * 12))]
        expected = q.T @ q @ turned * (squared(part) / squared(q @ turned)) ** 0.5
        for change, values in ((own[name], part), (control[name], expected)):
            np.testing.assert_allclose(change.T if written[name] == "input" else change, values, atol=1e-4)
    weights.close()


def test_points_of_a_trial():
    points = update_points(find_hypothesis("alignment"), ["useful", "harmful"], (0.5, 0.25), 2)
    assert len(set(points)) == len({point.name for point in points}) == 2 * 2 * 2 * 3
    assert [(p.method, p.finetune, p.fraction, p.draw) for p in points[:4]] == [
        ("parallel", "useful", 0.25, None),
        ("parallel", "useful", 0.5, None),
        ("parallel", "useful", 0.25, 0),
        ("parallel", "useful", 0.25, 1),
    ]
    assert {point.method for point in update_points(find_hypothesis("lox"), ["useful"], (1.0,), 1)} == {"edit"}
    with pytest.raises(ConfigError, match="fraction 0.0 is outside"):
        update_points(find_hypothesis("lox"), ["useful"], (0.0,), 1)


SPIKES = {"useful": 1, "harmful": 2}


@pytest.fixture(scope="module")
def spiked(tmp_path_factory):
    """Fine-tunes whose updates are noise and so many directions far above it, in every matrix others."""
    folder, aligned = tmp_path_factory.mktemp("spiked"), odd_weights(1)

    def tuned(seed, spikes):
        weights = odd_weights(seed)
        for name, noise in weights.items():
            *experts, m, n = noise.shape if noise.ndim > 1 else (1, 1)
            high = gaussian(*experts, m, spikes, seed=seed) @ gaussian(*experts, spikes, n, seed=seed + 1)
            weights[name] = aligned[name] + 0.1 * noise + (10 * high if noise.ndim > 1 else 0)
        return weights

    finetuned = {
        label: Checkpoint(save_checkpoint(folder / label, tuned(seed, SPIKES[label])))
        for seed, label in enumerate(SPIKES, 5)
    }
    base, start = (Checkpoint(save_checkpoint(folder / str(seed), odd_weights(seed))) for seed in (0, 1))
    return Family(base, start, finetuned)


@hypothesis("one-sided", claim="c", paper="p", needs=["task"])
def one_sided(matrix):
    """Inputs of the matrices that the harmful fine-tune changed most, and nothing of the useful one's."""
    return Basis(None, torch.eye(matrix.shape[1])[:, :2]) if matrix.task.norm() > 1e3 else None


def test_a_control_is_on_the_side_of_its_own_fine_tunes_basis(tmp_path, monkeypatch):
    for module in ("tensor", "update_weights"):
        monkeypatch.setattr(f"safespan.projection.{module}.find_hypothesis", lambda name: one_sided)
    weights = {"base": odd_weights(0), "aligned": odd_weights(1), "useful": odd_weights(2)}
    weights["harmful"] = {name: 1e3 * values for name, values in odd_weights(3).items()}
    opened = {role: Checkpoint(save_checkpoint(tmp_path / role, values)) for role, values in weights.items()}
    family = Family(opened["base"], opened["aligned"], {label: opened[label] for label in SPIKES})
    made = UpdateWeights(family, list(SPIKES), FRACTIONS, "output", 0, tmp_path)
    for label, side in (("useful", (True, False)), ("harmful", (False, True))):
        for draw in (None, 0):
            given = made.changes(UpdatePoint(label, "one-sided", "parallel", 0.5, draw))
            assert {change.sides for change in given if change.tensor.ndim > 1} == {side}
    made.close()


def learned(family, label, fraction, side):
    """The part of every tensor's update along its first singular vectors, and no more of them than its spikes."""
    parts = {}
    for name, (_, task) in updates(family, label).items():
        parts[name] = np.zeros_like(task)
        for part, matrix in zip(each(parts[name]), each(task), strict=True):
            left, values, right = np.linalg.svd(matrix, full_matrices=False)
            k = min(SPIKES[label], max(1, round(fraction * min(matrix.shape))))
            part[:] = (left[:, :k] * values[:k]) @ right[:k]  # the same from either side
    return parts


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("method", ["parallel", "orthogonal"])
def test_each_fine_tune_has_directions_of_its_own_and_controls_of_the_energy_of_both(spiked, tmp_path, method, side):
    weights = UpdateWeights(spiked, list(SPIKES), FRACTIONS, side, 0, tmp_path)
    for fraction in (0.9, 0.25):
        parts = {label: learned(spiked, label, fraction, side) for label in SPIKES}
        whole = {label: {name: task for name, (_, task) in updates(spiked, label).items()} for label in SPIKES}
        own = {label: changes(weights, UpdatePoint(label, "task-update", method, fraction, None)) for label in SPIKES}
        controls = {label: changes(weights, UpdatePoint(label, "task-update", method, fraction, 0)) for label in SPIKES}
        for label, name in product(SPIKES, spiked.names()):
            kept = parts[label][name] if method == "parallel" else whole[label][name] - parts[label][name]
            np.testing.assert_allclose(own[label][name], kept, atol=1e-4)
        for name in spiked.names():
            sums = zip(*(each(own[label][name]) for label in SPIKES), strict=True)
            deltas = zip(*(each(whole[label][name]) for label in SPIKES), strict=True)
            drawn = zip(*(each(controls[label][name]) for label in SPIKES), strict=True)
            for kept, delta, control in zip(sums, deltas, drawn, strict=True):
                share = sum(map(squared, kept)) / sum(map(squared, delta))
                assert [squared(part) for part in control] == pytest.approx(
                    [share * squared(part) for part in delta], rel=1e-4
                )
    weights.close()
