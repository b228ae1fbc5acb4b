"""Bounds on the rates of a model, alone or beside a reference, and whether it keeps them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from safespan.statistics.intervals import MAX_FAILED, paired_difference, wilson

Happened = Sequence[bool | None]
"""Whether it happened, by prompt or document; None where the judgement failed."""

Kind = Literal["most", "least", "rise", "loss"]
"""The rate is at most, or at least, a limit; or it rises, or falls, from the reference by at most that."""


@dataclass(frozen=True)
class Bound:
    """A bound on a rate, or on how a rate changes from the reference to the model.

    Attributes:
        name: of the option that sets it.
        measure: the rate's name in words.
        kind: what is bounded.
        limit: in [0, 1].
    """

    name: str
    measure: str
    kind: Kind
    limit: float

    @property
    def relative(self) -> bool:
        """Whether it is against the reference."""
        return self.kind in ("rise", "loss")


@dataclass(frozen=True)
class Decision:
    """What became of one bound.

    Attributes:
        bound: the bound.
        value: the rate, or its rise or loss.
        low: lower end of its 95 % interval.
        high: upper end.
        n: prompts or documents that it is of.
        failed: prompts left out, as their judgement failed, of the model or of the reference.
        outcome: kept or broken; undecided where more than 2 % of the judgements failed, or there is nothing to judge.
        sure: whether the whole interval is on the side that was decided for.
    """

    bound: Bound
    value: float
    low: float
    high: float
    n: int
    failed: int
    outcome: Literal["kept", "broken", "undecided"]
    sure: bool


def decide(bound: Bound, model: Happened, reference: Happened | None, confident: bool) -> Decision:
    """Decide whether a model keeps a bound.

    Args:
        bound: the bound.
        model: the model's outcomes.
        reference: those of the reference on the same prompts, for bounds that are against it.
        confident: keep only what the whole 95 % interval keeps; else the estimate decides.
    """
    others = reference if bound.relative and reference is not None else model
    pairs = [(x, y) for x, y in zip(model, others, strict=True) if x is not None and y is not None]
    ones, twos = [x for x, _ in pairs], [y for _, y in pairs]
    n, failed = len(pairs), len(model) - len(pairs)
    if bound.kind == "rise":
        value, low, high = paired_difference(ones, twos)
    elif bound.kind == "loss":
        value, low, high = paired_difference(twos, ones)
    else:
        value, (low, high) = sum(ones) / n if n else math.nan, wilson(sum(ones), n)

    def keeps(number: float) -> bool:
        return number >= bound.limit if bound.kind == "least" else number <= bound.limit

    worst, best = (low, high) if bound.kind == "least" else (high, low)
    kept = keeps(worst if confident else value)
    if not n or failed > MAX_FAILED * len(model):
        return Decision(bound, value, low, high, n, failed, "undecided", False)
    sure = keeps(worst) if kept else not keeps(best)
    return Decision(bound, value, low, high, n, failed, "kept" if kept else "broken", sure)
