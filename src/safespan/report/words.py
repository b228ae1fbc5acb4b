"""Verdicts as sentences and numbers as text."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from math import isnan

from safespan.errors import DataError
from safespan.results.claim_tables import ClaimVerdict, EstimateRow, PooledRow, VerdictRow
from safespan.settings.names import TESTS
from safespan.statistics.effects import DECIDING
from safespan.statistics.verdicts import (
    CLAIM,
    CONSTRUCTS,
    DIRECTIONS,
    INCONCLUSIVE,
    NOT_MEASURABLE,
    NOT_SELECTIVE,
    POSITIVE,
    SELECTIVE,
    TOO_SMALL,
    beside_margin,
)

QUESTIONS = {
    "update": "Is the harm of a fine-tune concentrated in it?",
    "ablation": "Does the safety of the aligned model rest on it?",
    "training": "Does protecting it during fine-tuning keep harm out?",
}
"""Test -> what it asks of a hypothesis."""

_PHRASES = {
    "harm": {
        "what": "harm",
        "does": "gives forbidden answers",
        "do": "give forbidden answers",
        "keeps": "keeps harm out",
        "as_much": "keeps out as much harm as",
        "worse": "lets in more harm than",
    },
    "refusal": {
        "what": "the loss of refusals",
        "does": "stops refusing",
        "do": "stop refusing",
        "keeps": "keeps refusals",
        "as_much": "keeps as many refusals as",
        "worse": "loses more refusals than",
    },
}
"""Construct -> the parts of the sentences below that name it."""

_SELECTIVE = {
    ("update", "subspace"): (
        "the {name} subspace carries {what} before utility",
        "the {name} subspace carries utility before {what}",
    ),
    ("update", "edit"): ("{name} takes {what} away before utility", "{name} takes utility away before {what}"),
    ("ablation", "subspace"): (
        "without {name} the aligned model {does} before it loses capability",
        "without {name} the aligned model loses capability before it {does}",
    ),
    ("training", "subspace"): (
        "protecting {name} in training {keeps}",
        "protecting {name} in training {worse} protecting a random subspace does",
    ),
    ("training", "blocks"): (
        "freezing {name} in training {keeps}",
        "freezing {name} in training {worse} freezing other blocks does",
    ),
    ("training", "penalty"): (
        "the penalty {name} in training {keeps}",
        "the penalty {name} in training {worse} the same penalty in random directions does",
    ),
    ("ablation", "model"): (
        "the base model {does} where the aligned model does not",
        "the aligned model {does} where the base model does not",
    ),
    ("training", "training"): (
        "training without the harmful rows {keeps}",
        "training without the harmful rows {worse} training with them under random protection does",
    ),
}
"""(Test, kind of the hypothesis) -> the words of a selective one, with the statistic above 0 and below."""

_NOT_SELECTIVE = {
    ("update", "subspace"): "along the {name} subspace {what} and utility move together as in random directions, "
    "within the margin",
    ("update", "edit"): "{name} takes {what} and utility away together as random changes of the same matrices do, "
    "within the margin",
    ("ablation", "subspace"): "removing {name} does what removing random directions does, within the margin",
    ("training", "subspace"): "protecting {name} in training {as_much} protecting a random subspace does, within the "
    "margin",
    ("training", "blocks"): "freezing {name} in training {as_much} freezing other blocks does, within the margin",
    ("training", "penalty"): "the penalty {name} in training {as_much} the same penalty in random directions does, "
    "within the margin",
    ("ablation", "model"): "the base model does what the aligned model does, within the margin: there is nothing that "
    "an ablation could remove",
    ("training", "training"): "training without the harmful rows {as_much} training with them under random "
    "protection does, within the margin: these rows do no harm",
}
"""(Test, kind of the hypothesis) -> the words of one that is not selective."""

_OPEN = {
    ("update", "subspace"): "whether {name} separates {what} from utility",
    ("update", "edit"): "whether {name} separates {what} from utility",
    ("ablation", "subspace"): "whether removing {name} makes the aligned model {do} before it loses capability",
    ("training", "subspace"): "whether protecting {name} in training {keeps}",
    ("training", "blocks"): "whether freezing {name} in training {keeps}",
    ("training", "penalty"): "whether the penalty {name} in training {keeps}",
    ("ablation", "model"): "whether the base model {does} where the aligned model does not",
    ("training", "training"): "whether training without the harmful rows {keeps}",
}
"""(Test, kind of the hypothesis) -> the question that an inconclusive verdict leaves open."""


def sentence(row: VerdictRow, verdicts: Collection[VerdictRow]) -> str:
    """A verdict as a sentence without its full stop, and why it is not to be relied on, if it is not.

    Args:
        row: the verdict.
        verdicts: all of the run: the positive controls of the tests are among them.

    Raises:
        DataError: there is no such verdict.
    """
    words = words_of(row)
    states = row.group == CLAIM and row.verdict in (SELECTIVE, NOT_SELECTIVE)
    doubt = doubt_of(verdicts, row.test, [row.construct]) if states else ""
    return f"{words}, but {doubt}" if doubt else words


def is_found(row: VerdictRow | PooledRow) -> bool:
    """Whether a verdict is selective in the direction that its test asks for, as a positive control has to be."""
    return row.verdict == SELECTIVE and row.direction == DIRECTIONS[DECIDING[row.test], row.construct][0]


def doubt_of(verdicts: Collection[VerdictRow | PooledRow], test: str, constructs: Collection[str]) -> str:
    """Why no verdict of a test is to be relied on, in words; empty where its positive control was found."""
    controls = {row.construct: row for row in verdicts if row.group == POSITIVE and row.test == test}
    lost = [name for name in constructs if name not in controls or not is_found(controls[name])]
    if not lost:
        return ""
    by = " and ".join(lost)
    if not controls:
        return f"this test had no positive control (by {by}), so do not rely on this verdict"
    return f"the positive control of this test was not found (by {by}), so do not rely on this verdict"


def words_of(row: VerdictRow) -> str:
    """A verdict as a sentence without its full stop.

    Raises:
        DataError: there is no such verdict.
    """
    template = _template(row)
    if template is None:
        raise DataError(
            f"the verdict on {row.hypothesis} in the test {row.test} is {verdict_text(row)!r}, which no run gives: run "
            "it again"
        )
    sentence = template.format(name=row.hypothesis, **_PHRASES[row.construct])
    return sentence[0].upper() + sentence[1:]


def _template(row: VerdictRow) -> str | None:
    place = (row.test, "edit" if row.kind in ("layers", "addition") else row.kind)
    if place not in _SELECTIVE or row.construct not in CONSTRUCTS:
        return None
    directions = DIRECTIONS[DECIDING[row.test], row.construct]
    by_direction: Mapping[str | None, str] = dict(zip(directions, _SELECTIVE[place], strict=True))
    return {
        SELECTIVE: by_direction.get(row.direction),
        NOT_SELECTIVE: _NOT_SELECTIVE[place],
        INCONCLUSIVE: f"this run cannot decide {_OPEN[place]}",
        NOT_MEASURABLE: "this run could not measure {name} in this test",
        TOO_SMALL: "the {name} subspace holds too little of the update to be tested",
    }.get(row.verdict or "")


def headline(verdicts: Sequence[VerdictRow | PooledRow]) -> str:
    """Which claims are selective in which test, and which of these tests did not find its positive control.

    Args:
        verdicts: all of a run or recipe, those of the controls too.
    """
    claims = [row for row in verdicts if row.group == CLAIM]
    named = [text for test in TESTS if (text := _selective_in(test, claims, verdicts))]
    if named:
        return f"Selective {'; '.join(named)}."
    names = list(dict.fromkeys(row.hypothesis for row in claims))
    none = f"{names[0]} is selective in no test" if len(names) == 1 else f"None of {len(names)} hypotheses is selective"
    doubts = [
        f" In the {test} test: {doubt}."
        for test in TESTS
        if (doubt := doubt_of(verdicts, test, _constructs(test, NOT_SELECTIVE, claims)))
    ]
    return "".join([none, "." if len(names) == 1 else " in any test.", *doubts])


def _selective_in(
    test: str, claims: Sequence[VerdictRow | PooledRow], verdicts: Sequence[VerdictRow | PooledRow]
) -> str:
    """The selective claims of a test with their directions; empty if there is none."""
    directions: dict[str, list[str]] = {}
    for row in claims:
        if row.test == test and row.verdict == SELECTIVE:
            directions.setdefault(row.hypothesis, []).append(str(row.direction))
    if not directions:
        return ""
    own = ", ".join(f"{name} ({' and '.join(dict.fromkeys(of))})" for name, of in directions.items())
    doubt = doubt_of(verdicts, test, _constructs(test, SELECTIVE, claims))
    return f"in the {test} test {own}{f', but {doubt}' if doubt else ''}"


def _constructs(test: str, verdict: str, claims: Sequence[VerdictRow | PooledRow]) -> list[str]:
    """By which constructs claims have a verdict in a test."""
    there = {row.construct for row in claims if (row.test, row.verdict) == (test, verdict)}
    return [name for name in CONSTRUCTS if name in there]


def verdict_text(row: VerdictRow | EstimateRow | PooledRow) -> str:
    """A verdict with its direction, if it has one."""
    return f"{row.verdict}, {row.direction}" if row.direction else f"{row.verdict}"


def estimate_text(row: EstimateRow | PooledRow | ClaimVerdict, margin: float | None = None) -> str:
    """The estimate with its interval; a dash where it is not measurable."""
    return "–" if isnan(row.estimate) else f"{signed(row.estimate, margin)} {interval(row, margin)}"


def interval(row: EstimateRow | PooledRow | ClaimVerdict, margin: float | None = None) -> str:
    """The interval of an estimate."""
    return f"[{signed(row.low, margin)}, {signed(row.high, margin)}]"


def relative_text(row: EstimateRow) -> str:
    """The estimate over that of the positive control, with its interval; a dash where there is none."""
    return (
        "–" if isnan(row.relative) else f"{row.relative:.2f} [{signed(row.relative_low)}, {signed(row.relative_high)}]"
    )


def signed(score: float, margin: float | None = None) -> str:
    """A score as text: its sign, two digits, and no minus zero; a dash where there is none.

    More digits where two would be those of the margin, if one is given, and the score is not the margin.
    """
    return "–" if isnan(score) else beside_margin(score, margin)


def number(value: float | None) -> str:
    """A number as text with two digits; a dash where there is none."""
    return "–" if value is None or isnan(value) else f"{value:.2f}"


def percent(value: float) -> str:
    """A share in per cent; a dash where there is none."""
    return "–" if isnan(value) else f"{value:.1%}"


def share(value: float | None) -> str:
    """A share in whole per cent; a dash where there is none."""
    return "–" if value is None or isnan(value) else f"{100 * value:.0f} %"


def typeset(text: str) -> str:
    """A text for the page: a minus sign before numbers below 0, and no line end between a number and its %."""
    return re.sub(r"(?<=\d) (?=%)", "\u00a0", re.sub(r"(?<![\w.])-(?=\d)", "\u2212", text))


TEXTS: dict[str, Callable[..., str]] = {
    "estimate": estimate_text,
    "interval": interval,
    "number": number,
    "percent": percent,
    "relative": relative_text,
    "signed": signed,
    "typeset": typeset,
    "verdict": verdict_text,
}
"""The filters of the templates."""
