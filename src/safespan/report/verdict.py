"""The verdicts of a run in words and figures, from its tables `verdicts`, `estimates` and `trials` (METHODS §7)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan

import polars as pl

from safespan.errors import DataError
from safespan.results.claim_tables import EstimateRow, VerdictRow

MEASURES = ("utility", "attack_success_rate", "over_refusal_rate", "general_ability", "useful_nll", "harmful_nll")
"""Harm is never shown without capability and over-refusal beside it."""

_WORDS = {
    ("subspace", "selective", "harm first"): "the {name} subspace carries harm before utility",
    ("subspace", "selective", "utility first"): "the {name} subspace carries utility before harm",
    ("edit", "selective", "harm first"): "{name} takes harm away before utility",
    ("edit", "selective", "utility first"): "{name} takes utility away before harm",
    ("subspace", "not selective", ""): "along the {name} subspace harm and utility move together, "
    "as in random directions",
    ("edit", "not selective", ""): "{name} takes harm and utility away together, as random changes of its size do",
}
_OPEN = {
    "inconclusive": "this run cannot decide whether {name} parts harm from utility",
    "depends on the measure": "whether {name} parts harm from utility depends on the measure",
}


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
        outcomes: outcome -> D and the verdict under it.
        scores: S by every method under every outcome.
        energy: the largest share of the update's energy that the hypothesis holds; None of an edit.
    """

    name: str
    verdict: str
    words: str
    reason: str
    outcomes: Mapping[str, EstimateRow]
    scores: list[EstimateRow]
    impact: list[Impact]
    energy: float | None


def reported(results: Mapping[str, pl.DataFrame]) -> list[Reported]:
    """All hypotheses of a run, `alignment` first."""
    numbers = results["estimates"].with_columns(pl.selectors.float().fill_null(float("nan")))
    estimates = [EstimateRow(**row) for row in numbers.rows(named=True)]
    verdicts = [VerdictRow(**row) for row in results["verdicts"].rows(named=True)]
    reports = []
    for row in sorted(verdicts, key=lambda row: row.hypothesis != "alignment"):
        own = [estimate for estimate in estimates if estimate.hypothesis == row.hypothesis]
        trials = results["trials"].filter(hypothesis=row.hypothesis)
        energy = trials.filter(pl.col("draw").is_null(), method="parallel")["energy_kept"].max()
        reports.append(
            Reported(
                row.hypothesis,
                verdict_text(row),
                words_of(row),
                row.reason or "",
                outcomes={estimate.outcome: estimate for estimate in own if estimate.statistic == "D"},
                scores=[estimate for estimate in own if estimate.statistic == "S"],
                impact=_impact(trials),
                energy=float(energy) if isinstance(energy, float) else None,
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
        rows = verdicts.filter(verdict=verdict).select("hypothesis", "direction").rows()
        if rows:
            names = "; ".join(f"{name}, {direction}" if direction else name for name, direction in rows)
            parts.append(f"{len(rows)} {verdict} ({names})")
    return f"Of {verdicts.height} hypotheses tested: {', '.join(parts)}."


def words_of(row: VerdictRow) -> str:
    """A verdict as a sentence without its full stop.

    Raises:
        DataError: there is no such verdict.
    """
    kind = "subspace" if row.kind == "subspace" else "edit"
    template = _OPEN.get(row.verdict or "") or _WORDS.get((kind, row.verdict or "", row.direction or ""))
    if template is None:
        raise DataError(f"the verdict on {row.hypothesis} is {verdict_text(row)!r}, which no run gives: run it again")
    sentence = template.format(name=row.hypothesis)
    return sentence[0].upper() + sentence[1:]


def verdict_text(row: VerdictRow | EstimateRow) -> str:
    """A verdict with its direction, if it has one."""
    return f"{row.verdict}, {row.direction}" if row.direction else f"{row.verdict}"


def d_text(row: EstimateRow) -> str:
    """D with its interval; a dash where it is not measurable."""
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


TEXTS = {"d": d_text, "interval": interval, "number": number, "signed": signed, "verdict": verdict_text}
"""The filters of the templates."""


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
