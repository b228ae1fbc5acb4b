"""What is asked in the tests of a claim: which claims, which points, which trainings."""

import math

import pytest
import torch

from oracle import odd_weights, save_checkpoint
from safespan.checkpoints import Checkpoint
from safespan.evaluation import Measured
from safespan.projection import Family
from safespan.projection.protection import write_protection, write_random_protection
from safespan.results.claim_tables import AblationPoint, CoverageRow
from safespan.study.claim_ablation import with_weaker_points
from safespan.study.claim_training import group_of, seed_of, shape_of
from safespan.study.coverage import untested_reason
from safespan.study.evidence import curves
from safespan.study.measured import Asked


def row(test="update", named=7, energy=0.3, held=0.2):
    return CoverageRow("claim", test, named, 23, energy, held, None)


@pytest.mark.parametrize(
    ("covered", "verdict", "says"),
    [
        (row(), "", ""),
        (row(named=0, energy=0.0, held=0.0), "not measurable", "it names 0 of 23 matrices, which hold 0.00% of"),
        (row("ablation", named=0, held=0.0), "not measurable", "it names 0 of 23 matrices"),
        (row(held=0.0099), "too small to test", "holds 0.99% of the update's energy at the largest fraction"),
        (row(held=0.01), "", ""),
        (row("ablation", held=0.0001), "", ""),  # too small is of the update test alone
        (row("training", held=0.0001), "", ""),
        (row(held=math.nan), "", ""),  # an edit holds no energy
    ],
)
def test_a_claim_about_nothing_or_too_little_is_not_asked(covered, verdict, says):
    got, reason = untested_reason(covered, "subspace")
    assert got == verdict
    assert says in reason


def test_an_edit_that_changes_no_matrix_is_not_asked():
    for kind in ("layers", "addition"):
        verdict, reason = untested_reason(row(named=0, energy=0.0, held=math.nan), kind)
        assert (verdict, reason) == (
            "not measurable",
            "its edit changes none of 23 matrices at any of these fractions",
        )
        assert untested_reason(row(named=1, held=math.nan), kind) == ("", "")


def measured(nll, harm=0.5):
    return Measured({"useful_nll": [nll] * 4, "compliance": [harm] * 4, "harmful_nll": [1.0] * 4})


class Answered:
    """Points whose ℓ is given by a rule; what was asked is kept."""

    def __init__(self, nll, weights):
        self.asked, self._nll, self._weights = [], nll, weights

    def upto(self, points, prompts):
        self.asked.append(list(points))
        return {point: Asked(measured(self._nll(point)), self._weights(point), 1.0) for point in points}


def test_a_curve_that_is_destroyed_gets_weaker_points_until_three_are_left():
    """ℓ rises with strength alone: below a strength of 0.3 the model keeps half of its capability."""
    points = [AblationPoint("claim", fraction, 1.0, draw) for fraction in (0.1, 0.5) for draw in (None, 0)]
    answered = Answered(lambda point: 1.1 if point.strength < 0.3 else 6.0, lambda point: str(point))
    known = with_weaker_points(points, 4, measured(1.0), answered)
    added = [[(point.fraction, point.strength, point.draw) for point in asked] for asked in answered.asked]
    assert sorted(added[0], key=str) == sorted([(point.fraction, 1.0, point.draw) for point in points], key=str)
    assert added[1:] == [[(0.1, 2.0**-k, None), (0.1, 2.0**-k, 0)] for k in range(1, 5)]  # 1/4, 1/8 and 1/16 are three
    assert len(known) == sum(map(len, added))


def test_points_with_the_same_weights_count_once():
    """A claim of one direction is one set of weights at every fraction."""
    points = [AblationPoint("claim", fraction, 1.0, None) for fraction in (0.1, 0.5, 1.0)]
    answered = Answered(lambda point: 1.1, lambda point: f"{point.strength}")
    known = with_weaker_points(points, 4, measured(1.0), answered)
    assert [(point.fraction, point.strength) for point in known if point not in points] == [(0.1, 0.5), (0.1, 0.25)]


def test_what_was_not_asked_is_not_known():
    class Forgotten:
        def upto(self, points, prompts):
            return None

    assert with_weaker_points([AblationPoint("claim", 0.5, 1.0, None)], 4, measured(1.0), Forgotten()) is None


def test_every_curve_has_its_own_points():
    points = [AblationPoint(name, 0.5, 1.0, draw) for name in ("a", "b") for draw in (None, 0, 1)]
    assert {key: len(own) for key, own in curves(points).items()} == {
        (name, draw): 1 for name in ("a", "b") for draw in (None, 0, 1)
    }


def test_a_training_has_a_seed_of_its_own_that_does_not_change_with_the_others():
    names = ["unprotected", "clean", "claim-alignment", "random-0-0", "random-0-1"]
    seeds = {name: seed_of(0, name) for name in names}
    assert len(set(seeds.values())) == len(names)
    assert seeds["clean"] == seed_of(0, "clean") != seed_of(1, "clean")
    assert all(0 <= seed < 2**31 for seed in seeds.values())


def test_random_subspaces_serve_the_claims_of_their_ranks_and_side(tmp_path):
    opened = [Checkpoint(save_checkpoint(tmp_path / str(seed), odd_weights(seed))) for seed in range(3)]
    family = Family(opened[0], opened[1], {"harmful": opened[2]})

    def made(name, fraction, side):
        file = tmp_path / f"{name}-{fraction}-{side}.safetensors"
        return write_protection(family, name, fraction, side, 0, file)

    alignment, oracle = made("alignment", 0.5, "output"), made("harmful-update", 0.5, "output")
    assert shape_of(alignment) == shape_of(oracle)
    assert group_of(alignment) == group_of(oracle) != group_of(made("alignment", 0.125, "output"))
    drawn = write_random_protection(alignment.path, 3, tmp_path / "random.safetensors")
    assert shape_of(drawn) == shape_of(alignment)
    assert shape_of(made("alignment", 0.25, "output")) != shape_of(alignment)
    assert shape_of(made("alignment", 0.5, "input")) != shape_of(alignment)
    first = alignment.claims(alignment.tensors[0])[0].left
    assert not torch.equal(first, drawn.claims(alignment.tensors[0])[0].left)
