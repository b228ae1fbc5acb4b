"""The matrices and the energy that a claim names, by hand."""

from functools import partial

import pytest

from oracle import exact, odd_weights, project, save_checkpoint
from safespan.checkpoints import Checkpoint
from safespan.projection import Family, coverage
from safespan.subspaces import Basis, decompose, find_hypothesis
from safespan.subspaces.hypothesis import Edit, hypothesis


@hypothesis("nothing", claim="nothing", paper="https://example.org")
def nothing(matrix):
    return None


@hypothesis("empty", claim="no direction", paper="https://example.org")
def empty(matrix):
    return Basis(matrix.aligned[:, :0], None)


@hypothesis("some", claim="an edit of one matrix", paper="https://example.org", kind="layers")
def some(matrix):
    return Edit(2 * matrix.task) if "down_proj" in matrix.name else None


@hypothesis("same", claim="an edit that changes nothing", paper="https://example.org", kind="addition")
def same(matrix):
    return Edit(matrix.task)


@hypothesis("many", claim="edits of all matrices", paper="https://example.org", kind="layers")
def many(matrix):
    return Edit(matrix.task / 2, -float(matrix.task.square().sum()))


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    folder = tmp_path_factory.mktemp("family")
    opened = [Checkpoint(save_checkpoint(folder / str(seed), odd_weights(seed))) for seed in range(3)]
    return Family(opened[0], opened[1], {"useful": opened[2]})


def covered(family, claim, fraction=0.5):
    delta = partial(family.task_update, finetune="useful")
    return coverage(family, claim, delta, "useful", fraction, "output", 0, decompose)


def matrices_of(family, name):
    delta = family.task_update(name, "useful")
    return [] if delta.ndim < 2 else delta.reshape(-1, *delta.shape[-2:])


def energies(family):
    return {name: float((exact(family.task_update(name, "useful")) ** 2).sum()) for name in family.names()}


def test_the_planted_claim_is_remarked_on_unless_a_fine_tune_was_trained_with_it(tmp_path):
    aligned, tuned = (Checkpoint(save_checkpoint(tmp_path / str(seed), odd_weights(seed))) for seed in range(2))
    family, planted = Family(None, aligned, {"contaminated": tuned}), find_hypothesis("planted")
    assert family.remark_on(planted).startswith("nothing was planted in these models")
    assert family.remark_on(find_hypothesis("random")) == ""
    record = tuned.folder / "training.json"
    record.write_text('{"protection": null}')
    assert family.remark_on(planted)
    record.write_text('{"protection": {"hypothesis": "planted", "keep": "outside"}}')
    assert family.remark_on(planted) == ""


@pytest.mark.parametrize("claim", [nothing, empty])
def test_a_claim_about_nothing_names_no_matrix(family, claim):
    got = covered(family, claim)
    assert (got.matrices_named, got.matrices) == (0, 4 + 3)  # four matrices, and a stack of three
    assert (got.energy_named, got.energy_held) == (0.0, 0.0)


def test_an_edit_names_the_matrices_that_it_edits(family):
    got, known = covered(family, some, 1.0), energies(family)
    assert got.matrices_named == 1
    expected = known["model.layers.0.mlp.down_proj.weight"] / sum(known.values())
    assert got.energy_named == pytest.approx(expected, rel=1e-5)
    assert got.energy_held != got.energy_held  # an edit holds no energy: NaN


def test_an_edit_names_what_it_changes_at_the_fraction_alone(family):
    known = sorted(
        (float((exact(matrix) ** 2).sum()) for name in family.names() for matrix in matrices_of(family, name)),
        reverse=True,
    )
    for fraction, edited in ((0.07, 0), (0.3, 2), (1.0, 7)):  # of seven matrices; those of most energy score lowest
        got = covered(family, many, fraction)
        assert got.matrices_named == edited
        assert got.energy_named == pytest.approx(sum(known[:edited]) / sum(energies(family).values()), rel=1e-5)
    assert covered(family, some, 0.4).matrices_named == 0  # 0.4 of one matrix is none
    assert covered(family, same, 1.0).matrices_named == 0


@pytest.mark.parametrize("fraction", [0.1, 0.7])
def test_a_subspace_holds_the_energy_of_its_projection(family, fraction):
    got, known = covered(family, find_hypothesis("alignment"), fraction), energies(family)
    held = 0.0
    for name in family.names():
        delta = exact(family.task_update(name, "useful"))
        if delta.ndim > 1:
            alignment = exact(family.aligned.load(name)) - exact(family.base.load(name))
            held += float((project(delta, alignment, fraction) ** 2).sum())
    assert got.matrices_named == got.matrices
    vectors = sum(known[name] for name in known if "norm" in name)
    assert got.energy_named == pytest.approx(1 - vectors / sum(known.values()), rel=1e-5)
    assert got.energy_held == pytest.approx(held / sum(known.values()), rel=1e-4)
