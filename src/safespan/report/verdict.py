"""The verdicts of a run in words and figures, from its tables `verdicts`, `estimates` and `trials` (METHODS §7)."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from safespan.errors import DataError

MEASURES = ("utility", "attack_success_rate", "over_refusal_rate", "general_ability", "useful_nll", "harmful_nll")
"""Harm is never shown without capability and over-refusal beside it."""

_WORDS = {
    ("subspace", "selective", "harm first"): "the {name} subspace carries harm before utility",
    ("subspace", "selective", "utility first"): "the {name} subspace carries utility before harm",
    ("edit", "selective", "harm first"): "{name} takes harm away before utility",
    ("edit", "selective", "utility first"): "{name} takes utility away before harm",
    (
        "subspace",
        "not selective",
        "",
    ): "along the {name} subspace harm and utility move together, as in random directions",
    ("edit", "not selective", ""): "{name} takes harm and utility away together, as random changes of its size do",
}
_OPEN = {
    "inconclusive": "this run cannot decide whether {name} parts harm from utility",
    "depends on the measure": "whether {name} parts harm from utility depends on the measure",
}


@dataclass(frozen=True)
class OutcomeVerdict:
    """The verdict on a hypothesis under one outcome, and D with its interval as text."""

    verdict: str
    d: str
    reason: str


@dataclass(frozen=True)
class MethodScore:
    """S of a hypothesis by one method under one outcome, and the areas it is the difference of, as text."""

    outcome: str
    method: str
    s: str
    interval: str
    area: str
    control_area: str


@dataclass(frozen=True)
class Impact:
    """One hypothesis and method at the fraction that keeps nearest to half of the energy; controls' means beside it."""

    method: str
    energy_kept: float
    own: Mapping[str, float | None]
    controls: Mapping[str, float | None]


@dataclass(frozen=True)
class Reported:
    """What the page says of one hypothesis.

    Attributes:
        outcomes: outcome -> the verdict under it.
        energy: the largest share of the update's energy that the hypothesis holds; None of an edit.
    """

    name: str
    verdict: str
    words: str
    reason: str
    outcomes: Mapping[str, OutcomeVerdict]
    scores: list[MethodScore]
    impact: list[Impact]
    energy: float | None


def reported(results: Mapping[str, pl.DataFrame]) -> list[Reported]:
    """All hypotheses of a run, `alignment` first."""
    verdicts = sorted(results["verdicts"].rows(named=True), key=lambda row: row["hypothesis"] != "alignment")
    reports = []
    for row in verdicts:
        estimates, trials = (results[table].filter(hypothesis=row["hypothesis"]) for table in ("estimates", "trials"))
        energy = trials.filter(pl.col("draw").is_null(), method="parallel")["energy_kept"].max()
        reports.append(
            Reported(
                row["hypothesis"],
                verdict_text(row["verdict"], row["direction"]),
                words_of(row["hypothesis"], row["kind"], row["verdict"], row["direction"] or ""),
                row["reason"] or "",
                _outcomes(estimates),
                _scores(estimates),
                _impact(trials),
                float(energy) if isinstance(energy, float) else None,
            )
        )
    return reports


def outcome_names(reports: list[Reported]) -> list[str]:
    """The outcomes of all hypotheses, in the order of the table."""
    return list(dict.fromkeys(outcome for report in reports for outcome in report.outcomes))


def summary_sentence(verdicts: pl.DataFrame) -> str:
    """How many hypotheses have which verdict, and which are selective: a sentence, empty where none was tested."""
    if verdicts.is_empty():
        return ""
    parts = []
    for verdict in ("selective", "not selective", "inconclusive", "depends on the measure"):
        rows = verdicts.filter(verdict=verdict).rows(named=True)
        names = [verdict_text(row["hypothesis"], row["direction"]) for row in rows]
        if names:
            parts.append(f"{len(names)} {verdict} ({'; '.join(names)})")
    return f"Of {verdicts.height} hypotheses tested: {', '.join(parts)}."


def words_of(name: str, kind: str, verdict: str, direction: str) -> str:
    """A verdict as a sentence without its full stop.

    Raises:
        DataError: there is no such verdict.
    """
    template = _OPEN.get(verdict) or _WORDS.get(("subspace" if kind == "subspace" else "edit", verdict, direction))
    if template is None:
        raise DataError(f"{name} has the verdict {verdict!r}, {direction!r}, which no run gives: run the study again")
    sentence = template.format(name=name)
    return sentence[0].upper() + sentence[1:]


def verdict_text(verdict: str, direction: str | None) -> str:
    """A verdict with its direction, if it has one."""
    return f"{verdict}, {direction}" if direction else verdict


def number(value: float | None) -> str:
    """A number as text with two digits; a dash where there is none."""
    return "–" if value is None else f"{value:.2f}"


def _signed(score: float) -> str:
    """A score as text: its sign, two digits, and no minus zero."""
    return f"{round(score, 2) + 0.0:+.2f}"


def _interval(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"[{_signed(low)}, {_signed(high)}]"


def _outcomes(estimates: pl.DataFrame) -> dict[str, OutcomeVerdict]:
    """Under each outcome the row of D holds the verdict."""
    decisions = estimates.filter(statistic="D").rows(named=True)
    return {
        row["outcome"]: OutcomeVerdict(
            verdict_text(row["verdict"], row["direction"]),
            "–" if row["estimate"] is None else f"{_signed(row['estimate'])} {_interval(row['low'], row['high'])}",
            row["reason"] or "",
        )
        for row in decisions
    }


def _scores(estimates: pl.DataFrame) -> list[MethodScore]:
    rows = estimates.filter(statistic="S").drop_nulls("estimate").rows(named=True)
    return [
        MethodScore(
            row["outcome"],
            row["method"],
            _signed(row["estimate"]),
            _interval(row["low"], row["high"]),
            number(row["area"]),
            number(row["control_area"]),
        )
        for row in rows
    ]


def _impact(trials: pl.DataFrame) -> list[Impact]:
    """The impact by each method of one hypothesis."""
    own, controls = (trials.filter(condition) for condition in (pl.col("draw").is_null(), pl.col("draw").is_not_null()))
    away = (pl.col("energy_kept") - 0.5).abs()
    impact = []
    for points in own.drop_nulls("energy_kept").partition_by("method", maintain_order=True):
        half = points.sort(away, "fraction").row(0, named=True)
        beside = controls.filter(method=half["method"], fraction=half["fraction"])
        means = beside.select(pl.mean(*MEASURES)).row(0, named=True)
        impact.append(Impact(half["method"], half["energy_kept"], {name: half[name] for name in MEASURES}, means))
    return impact
