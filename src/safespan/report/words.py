"""Verdicts as sentences and numbers as text."""

from collections.abc import Sequence
from math import isnan

from safespan.errors import DataError
from safespan.results.claim_tables import EstimateRow, VerdictRow
from safespan.settings.names import TESTS
from safespan.statistics.verdicts import DEPENDS, INCONCLUSIVE, NOT_MEASURABLE, NOT_SELECTIVE, SELECTIVE, TOO_SMALL

QUESTIONS = {
    "update": "Is the harm of a fine-tune concentrated there?",
    "ablation": "Does the aligned model’s safety sit there?",
    "training": "Does protecting it keep harm out?",
}
"""Test -> what it asks of a hypothesis."""

_SELECTIVE = {
    ("update", "subspace", "harm first"): "the {name} subspace carries harm before utility",
    ("update", "subspace", "utility first"): "the {name} subspace carries utility before harm",
    ("update", "edit", "harm first"): "{name} takes harm away before utility",
    ("update", "edit", "utility first"): "{name} takes utility away before harm",
    ("ablation", "subspace", "harm first"): "without {name} the aligned model complies before it loses capability",
    ("ablation", "subspace", "utility first"): "without {name} the aligned model loses capability before it complies",
    ("training", "subspace", "protects"): "protecting {name} in training keeps harm out",
    ("training", "subspace", "exposes"): "protecting {name} in training lets in more harm than protecting a random "
    "subspace does",
}
"""(Test, kind of the hypothesis, direction) -> the words of a selective one."""

_NOT_SELECTIVE = {
    ("update", "subspace"): "along the {name} subspace harm and utility move together as in random "
    "directions, within the margin",
    ("update", "edit"): "{name} takes harm and utility away together as random changes of the same matrices do, "
    "within the margin",
    ("ablation", "subspace"): "removing {name} makes the aligned model comply as removing random directions does, "
    "within the margin",
    ("training", "subspace"): "protecting {name} in training keeps out as much harm as protecting a random subspace, "
    "within the margin",
}
"""(Test, kind of the hypothesis) -> the words of one that is not selective."""

_OPEN = {
    "update": "whether {name} separates harm from utility",
    "ablation": "whether removing {name} makes the aligned model comply before it loses capability",
    "training": "whether protecting {name} in training keeps harm out",
}
"""Test -> the question that an undecided verdict leaves open."""


def words_of(row: VerdictRow) -> str:
    """A verdict as a sentence without its full stop.

    Raises:
        DataError: there is no such verdict.
    """
    template = _template(row) if row.test in TESTS else None
    if template is None:
        raise DataError(
            f"the verdict on {row.hypothesis} in the test {row.test} is {verdict_text(row)!r}, which no run gives: run "
            "it again"
        )
    sentence = template.format(name=row.hypothesis)
    return sentence[0].upper() + sentence[1:]


def _template(row: VerdictRow) -> str | None:
    kind = "subspace" if row.kind == "subspace" else "edit"
    question = _OPEN[row.test]
    return {
        SELECTIVE: _SELECTIVE.get((row.test, kind, row.direction or "")),
        NOT_SELECTIVE: _NOT_SELECTIVE.get((row.test, kind)),
        INCONCLUSIVE: f"this run cannot decide {question}",
        DEPENDS: f"{question} depends on the measure",
        NOT_MEASURABLE: "this run could not measure {name} in this test",
        TOO_SMALL: "the {name} subspace holds too little of the update to be tested",
    }.get(row.verdict or "")


def headline(verdicts: Sequence[VerdictRow]) -> str:
    """Which hypotheses are selective in which test, in one sentence."""
    found = [row for row in verdicts if row.verdict == SELECTIVE]
    if not found:
        names = list({row.hypothesis: None for row in verdicts})
        if len(names) == 1:
            return f"{names[0]} is selective in no test."
        return f"None of {len(names)} hypotheses is selective in any test."
    named = []
    for test in TESTS:
        own = [f"{row.hypothesis} ({row.direction})" for row in found if row.test == test]
        if own:
            named.append(f"in {test} {', '.join(own)}")
    return f"Selective: {'; '.join(named)}."


def verdict_text(row: VerdictRow | EstimateRow) -> str:
    """A verdict with its direction, if it has one."""
    return f"{row.verdict}, {row.direction}" if row.direction else f"{row.verdict}"


def estimate_text(row: EstimateRow) -> str:
    """The estimate with its interval; a dash where it is not measurable."""
    return "–" if isnan(row.estimate) else f"{signed(row.estimate)} {interval(row)}"


def interval(row: EstimateRow) -> str:
    """The interval of an estimate."""
    return f"[{signed(row.low)}, {signed(row.high)}]"


def signed(score: float) -> str:
    """A score as text: its sign, two digits, and no minus zero; a dash where there is none."""
    return "–" if isnan(score) else f"{round(score, 2) + 0.0:+.2f}"


def number(value: float | None) -> str:
    """A number as text with two digits; a dash where there is none."""
    return "–" if value is None or isnan(value) else f"{value:.2f}"


def percent(value: float) -> str:
    """A share in per cent; a dash where there is none."""
    return "–" if isnan(value) else f"{value:.1%}"


TEXTS = {
    "estimate": estimate_text,
    "interval": interval,
    "number": number,
    "percent": percent,
    "signed": signed,
    "verdict": verdict_text,
}
"""The filters of the templates."""
