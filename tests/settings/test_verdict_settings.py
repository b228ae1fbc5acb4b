"""The looks at a test, and the fine-tunes that it is about."""

import pytest

from safespan.errors import ConfigError
from safespan.settings.verdict import Look, VerdictConfig, chosen_tests, looks_of, update_finetunes


@pytest.mark.parametrize(
    ("settings", "available", "looks"),
    [
        ({}, 1000, [(5, 40), (8, 70), (12, 100)]),
        ({"until_decided": False}, 1000, [(8, 100)]),
        ({}, 50, [(5, 40), (8, 50), (12, 50)]),  # there are no more prompts
        ({"controls": 2, "prompts": 3}, 1000, [(2, 2), (2, 3), (3, 3)]),
        ({"prompts": 10, "until_decided": False}, 4, [(8, 4)]),
    ],
)
def test_looks_grow_up_to_what_there_is(settings, available, looks):
    assert looks_of(VerdictConfig(**settings), available) == tuple(Look(*look) for look in looks)


@pytest.mark.parametrize(
    ("roles", "pair"),
    [
        (["aligned", "useful", "harmful", "contaminated", "finetuned"], ("contaminated", "contaminated")),
        (["aligned", "useful", "harmful", "finetuned"], ("finetuned", "finetuned")),
        (["aligned", "harmful", "useful"], ("useful", "harmful")),
        (["aligned", "useful"], ("useful", "useful")),
    ],
)
def test_the_update_test_takes_the_fine_tune_that_says_most(roles, pair):
    assert update_finetunes(roles) == pair
    assert chosen_tests(VerdictConfig(), roles) == ("update", "ablation")


def test_without_a_fine_tune_there_is_no_update_test():
    for roles in (["aligned", "base"], ["aligned", "harmful"]):
        assert chosen_tests(VerdictConfig(), roles) == ("ablation",)
        with pytest.raises(ConfigError, match="the update test needs a fine-tune: contaminated, finetuned or useful"):
            update_finetunes(roles)


def test_the_level_is_that_of_one_side():
    assert VerdictConfig(confidence=0.95).level == pytest.approx(0.025)
