"""The work of the training test and of captured activations, against sums by hand."""

from types import SimpleNamespace
from typing import Any

import pytest

from safespan.settings.study import bundled_study, load_study
from safespan.study.costs import activations
from safespan.study.costs.claims import training_test_work
from safespan.study.costs.work import Shape, Work


class Asked:
    """Ten likelihoods of each set of weights."""

    def part(self, start: int, stop: int) -> Work:
        return Work(asks=1, likelihoods=10)


def test_the_training_without_harmful_rows_has_its_own_steps() -> None:
    settings = ["verdict.training={controls: 3, points: 2}"]
    config = load_study(bundled_study("organism"), settings)
    one, clean = Work(opened=1, trainings=1, steps=12), Work(opened=1, trainings=1, steps=10)
    least, most = training_test_work(config, Asked(), ["a", "b"], one, clean)  # type: ignore[arg-type]
    assert (least.trainings, most.trainings) == (2 + 2 + 3, 2 + 2 + 2 * 3)
    assert (least.steps, most.steps) == (10 + 12 * 6, 10 + 12 * 9)
    assert (least.held_steps, most.held_steps) == (12 * 5, 12 * 8)
    assert least.asks == 1 + 7 * 3


@pytest.mark.parametrize(("layers", "candidates"), [(3, 2), (10, 7), (32, 25)])
def test_prompts_are_read_again_for_each_candidate(layers: int, candidates: int, monkeypatch) -> None:
    useful, harmful = 40, 300
    asked = Work(scored_tokens=1000 * (useful + harmful))
    monkeypatch.setattr(activations, "_asked", lambda *_: ((asked, (useful, harmful)), ()))
    monkeypatch.setattr(activations, "needs_base_activations", lambda _: False)
    place: Any = SimpleNamespace(config=None, shape=Shape(1, layers=layers))
    work, _ = activations.captured_work(place, {})
    again = 64 * candidates + 20 * (2 * candidates + 1)  # half of the useful ones, 64 of the harmful ones
    assert work.scored_tokens == pytest.approx(1000 * (2 * (useful + harmful) + again), rel=1e-6)
