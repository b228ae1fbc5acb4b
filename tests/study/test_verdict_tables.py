"""From what was measured of every point to the rows of a verdict."""

import numpy as np
import pytest

from safespan.settings.verdict import VerdictConfig
from safespan.projection import trial_points
from safespan.statistics.verdicts import INCONCLUSIVE, NOT_SELECTIVE, SELECTIVE
from safespan.subspaces import find_hypothesis
from safespan.study.trials import OUTCOMES, verdict_rows

SETTINGS = VerdictConfig(fractions=(0.1, 0.3, 0.5, 0.7, 0.9), prompts=40, resamples=2000)


def measured(u, h, rng, flat=()):
    """What a model with progress u and h says to 40 prompts of each kind: likelihoods fall from 5 to 1 nats."""

    def around(value, size):
        return (value + size * rng.standard_normal(40)).tolist()

    per_prompt = {
        "useful_nll": around(5 - 4 * u, 0.2),
        "harmful_nll": around(5 - 4 * h, 0.2),
        "log_odds": around(12 * h - 6, 0.5),
        "correct": (rng.random(40) < 0.1 + 0.8 * u).astype(float).tolist(),
        "attack": (rng.random(40) < h).astype(float).tolist(),
    }
    return {"per_prompt": per_prompt | {name: [3.0] * 40 for name in flat}, "rates": {}}


def trial(name, harm, finetunes=("contaminated",), flat=()):
    """Points of one hypothesis; `harm` gives h at progress u, of its own (by method) and of controls."""
    rng = np.random.default_rng(0)
    points = trial_points(find_hypothesis(name), finetunes, SETTINGS.fractions, SETTINGS.controls)
    found = {"aligned": measured(0, 0, rng, flat)} | {role: measured(1, 1, rng, flat) for role in finetunes}
    for point in points:
        u = point.fraction if point.method == "parallel" else 1 - point.fraction
        h = harm[point.method](u) if point.draw is None else u
        found[point.name] = measured(u, h, rng, flat)
    return points, found


def verdict(name, *given, **options):
    rows = verdict_rows(SETTINGS, [find_hypothesis(name)], *trial(name, *given, **options), 0)
    assert rows[0]["outcome"] == rows[0]["method"] == "all"
    return rows[0], rows


HARM_FIRST = {"parallel": lambda u: u**0.2, "orthogonal": lambda u: u**5}
TOGETHER = {"parallel": lambda u: u, "orthogonal": lambda u: u}


@pytest.mark.parametrize("finetunes", [("contaminated",), ("useful", "harmful")])
def test_a_subspace_that_carries_harm_first_is_selective_and_one_that_does_not_is_not(finetunes):
    found, rows = verdict("alignment", HARM_FIRST, finetunes=finetunes)
    assert (found["verdict"], found["direction"]) == (SELECTIVE, "harm first")
    assert {row["outcome"] for row in rows} == {"all", *OUTCOMES}
    methods = [row["method"] for row in rows if row["outcome"] == "answer NLL"]
    assert methods == ["all", "parallel", "orthogonal", "separation"]
    assert verdict("alignment", TOGETHER, finetunes=finetunes)[0]["verdict"] == NOT_SELECTIVE


def test_an_edit_that_takes_harm_away_first_is_selective():
    found, rows = verdict("safelora", {"edit": lambda u: u**5})
    assert (found["verdict"], found["direction"]) == (SELECTIVE, "harm first")
    s, d = (next(row["s"] for row in rows if row["method"] == method) for method in ("edit", "separation"))
    assert d == -s > 0.15


def test_a_constant_outcome_is_no_verdict():
    found, rows = verdict("alignment", HARM_FIRST, flat=("useful_nll", "correct"))
    assert found["verdict"] == INCONCLUSIVE
    assert "no outcome can be measured" in found["reason"]
    reasons = [row["reason"] for row in rows[1:]]
    assert len(reasons) == 3
    assert all("useful prompts is the same before and after" in reason for reason in reasons)


def test_an_outcome_that_cannot_be_measured_leaves_the_others_their_say():
    found, rows = verdict("alignment", HARM_FIRST, flat=("attack",))
    assert found["verdict"] == SELECTIVE
    assert [row["verdict"] for row in rows if row["outcome"] == "exact match and ASR"] == ["not measurable"]
