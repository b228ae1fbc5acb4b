from datetime import datetime

import pytest

from safespan.study.costs.clock import Clock

NOON = datetime(2026, 1, 1, 12, 0)


def test_it_says_nothing_where_nothing_is_known():
    clock = Clock({}, ["data", "outcomes"])
    clock.finished("data", 3.0)
    assert (clock.left, clock.told(NOON)) == (None, "")


def test_what_is_left_follows_the_pace_of_the_stages_that_were_done():
    clock = Clock({"a": 10.0, "b": 20.0, "c": 30.0}, ["data", "a", "b", "c"], last=10.0)
    assert clock.left == 70
    clock.finished("data", 5.0)  # of a stage that costs next to nothing the pace says nothing
    assert clock.left == 70
    clock.finished("a", 20.0)
    assert clock.left == pytest.approx(2 * 60)
    clock.finished("b", None)  # it stood from an earlier run
    assert clock.left == pytest.approx(2 * 40)
    clock.finished("c", 60.0)
    assert clock.left == pytest.approx(2 * 10)


def test_the_day_is_said_where_it_is_another():
    assert Clock({"a": 600.0}, ["a"]).told(NOON) == ", run ends about 12:10"
    assert Clock({"a": 86_400.0}, ["a"]).told(NOON) == ", run ends about 12:00 on 02 January"
