import math

import pytest

from safespan.statistics.gate import Bound, decide
from safespan.statistics.intervals import wilson


def happened(yes, n):
    return [number < yes for number in range(n)]


def of(kind, limit):
    return Bound("a-bound", "a rate", kind, limit)


def test_the_estimate_decides_and_what_is_equal_to_the_limit_keeps_it():
    for yes, n, limit in ((3, 60, 0.05), (7, 70, 0.1), (29, 100, 0.29)):
        decision = decide(of("most", limit), happened(yes, n), None, confident=False)
        assert (decision.outcome, decision.value) == ("kept", limit)
        assert (decision.low, decision.high) == wilson(yes, n)
        assert not decision.sure
        assert decide(of("least", limit), happened(yes, n), None, confident=False).outcome == "kept"
        assert decide(of("most", limit), happened(yes + 1, n), None, confident=False).outcome == "broken"
        assert decide(of("least", limit), happened(yes - 1, n), None, confident=False).outcome == "broken"


def test_the_interval_decides_by_its_worse_end():
    # the upper end of the Wilson interval of 0 of n is z² / (n + z²): below 0.05 from 73 on
    assert decide(of("most", 0.05), happened(0, 72), None, confident=True).outcome == "broken"
    kept = decide(of("most", 0.05), happened(0, 73), None, confident=True)
    assert (kept.outcome, kept.sure) == ("kept", True)
    assert decide(of("least", 0.95), happened(72, 72), None, confident=True).outcome == "broken"
    assert decide(of("least", 0.95), happened(73, 73), None, confident=True).outcome == "kept"


def test_a_decision_is_sure_where_the_whole_interval_is_on_its_side():
    assert decide(of("most", 0.05), happened(0, 73), None, confident=False).sure
    assert not decide(of("most", 0.05), happened(0, 72), None, confident=False).sure
    assert decide(of("most", 0.05), happened(50, 100), None, confident=False).sure
    assert not decide(of("most", 0.05), happened(6, 100), None, confident=True).sure


def test_a_loss_is_what_the_reference_has_more_and_a_rise_what_it_has_less():
    model, reference = happened(6, 10), happened(8, 10)
    assert decide(of("loss", 0.2), model, reference, confident=False).value == 0.2
    assert decide(of("loss", 0.2), model, reference, confident=False).outcome == "kept"
    assert decide(of("loss", 0.19), model, reference, confident=False).outcome == "broken"
    rise = decide(of("rise", 0.0), model, reference, confident=False)
    assert (rise.value, rise.outcome) == (-0.2, "kept")
    assert rise.low < -0.2 < rise.high


def test_failed_judgements_are_left_out_and_too_many_decide_nothing():
    model = [*happened(1, 98), None, None]
    few = decide(of("most", 0.5), model, None, confident=False)
    assert (few.n, few.failed, few.outcome, few.value) == (98, 2, "kept", 1 / 98)
    many = decide(of("most", 0.5), [*happened(1, 97), None, None, None], None, confident=False)
    assert (many.outcome, many.sure) == ("undecided", False)
    reference = [None, *happened(0, 99)]
    both = decide(of("rise", 0.5), model, reference, confident=False)
    assert (both.n, both.failed, both.value) == (97, 3, 0.0)
    assert both.outcome == "undecided"


def test_nothing_that_was_asked_decides_nothing():
    decision = decide(of("most", 0.5), [], None, confident=False)
    assert decision.outcome == "undecided"
    assert math.isnan(decision.value)


@pytest.mark.parametrize("kind", ["most", "least"])
def test_a_bound_that_is_not_against_the_reference_does_not_look_at_it(kind):
    alone = decide(of(kind, 0.5), happened(3, 10), None, confident=False)
    assert alone == decide(of(kind, 0.5), happened(3, 10), happened(9, 10), confident=False)
