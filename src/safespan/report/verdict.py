"""The verdicts of a run in words and figures, from its tables `verdicts` and `trials` (METHODS §7)."""

from dataclasses import dataclass

import polars as pl

from safespan.statistics.selectivity import SEPARATION

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
class Impact:
    """One hypothesis and method at the fraction that keeps nearest to half of the energy; controls' means beside it."""

    method: str
    energy_kept: float
    own: dict[str, float | None]
    controls: dict[str, float | None]


@dataclass(frozen=True)
class Reported:
    """What the page says of one hypothesis.

    Attributes:
        outcomes: (outcome, its verdict, D and interval as text, reason).
        figures: (outcome, method, S, interval, area, controls' area).
        energy: the largest share of the update's energy that the hypothesis holds; None of an edit.
    """

    name: str
    verdict: str
    words: str
    reason: str
    outcomes: list[tuple[str, str, str, str]]
    figures: list[tuple[str, str, str, str, str, str]]
    impact: list[Impact]
    energy: float | None


MEASURES = ("utility", "attack_success_rate", "over_refusal_rate", "general_ability", "useful_nll", "harmful_nll")
"""Harm is never shown without capability and over-refusal beside it."""


def signed(score: float) -> str:
    """A score as text: its sign, two digits, and no minus zero."""
    return f"{round(score, 2) + 0.0:+.2f}"


def reported(verdicts: pl.DataFrame, trials: pl.DataFrame) -> list[Reported]:
    """All hypotheses of a run, `alignment` first."""
    names = sorted(verdicts["hypothesis"].unique(maintain_order=True).to_list(), key=lambda name: name != "alignment")
    return [
        _reported(verdicts.filter(pl.col("hypothesis") == name), trials.filter(pl.col("hypothesis") == name), name)
        for name in names
    ]


def summary(verdicts: pl.DataFrame) -> str:
    """How many hypotheses were found what, and which are selective: a sentence, empty where none was tested."""
    whole = verdicts.filter(pl.col("method") == "all", pl.col("outcome") == "all")
    if whole.is_empty():
        return ""
    parts = []
    for verdict in ("selective", "not selective", "inconclusive", "depends on the measure"):
        found = whole.filter(pl.col("verdict") == verdict)
        names = [
            f"{row['hypothesis']}, {row['direction']}" if row["direction"] else row["hypothesis"]
            for row in found.iter_rows(named=True)
        ]
        if names:
            parts.append(f"{len(names)} {verdict} ({'; '.join(names)})")
    return f"Of {whole.height} hypotheses tested: {', '.join(parts)}."


def words_of(name: str, kind: str, verdict: str, direction: str) -> str:
    """A verdict as a sentence without its full stop."""
    found = _OPEN.get(verdict) or _WORDS["subspace" if kind == "subspace" else "edit", verdict, direction]
    sentence = found.format(name=name)
    return sentence[0].upper() + sentence[1:]


def _reported(rows: pl.DataFrame, trials: pl.DataFrame, name: str) -> Reported:
    whole = rows.row(0, named=True)
    outcomes, figures = [], []
    for row in rows.rows(named=True)[1:]:
        if row["method"] == "all":
            separation = rows.filter(pl.col("outcome") == row["outcome"], pl.col("method") == SEPARATION)
            d = _with_interval(separation.row(0, named=True)) if separation.height else "–"
            outcomes.append((row["outcome"], _verdict(row), d, row["reason"]))
        elif row["method"] != SEPARATION:
            areas = (f"{row[column]:.2f}" for column in ("area", "control_area"))
            figures.append((row["outcome"], row["method"], signed(row["s"]), _interval(row), *areas))
    own = trials.filter(pl.col("draw").is_null())
    held = own.filter(pl.col("method") == "parallel")["energy_kept"].max()
    return Reported(
        name,
        _verdict(whole),
        words_of(name, whole["kind"], whole["verdict"], whole["direction"] or ""),
        whole["reason"],
        outcomes,
        figures,
        [_impact(part) for part in trials.partition_by("method", maintain_order=True)],
        float(held) if isinstance(held, float) else None,
    )


def _verdict(row: dict[str, str]) -> str:
    return f"{row['verdict']}, {row['direction']}" if row["direction"] else row["verdict"]


def _with_interval(row: dict[str, float]) -> str:
    return f"{signed(row['s'])} {_interval(row)}"


def _interval(row: dict[str, float]) -> str:
    return f"[{signed(row['low'])}, {signed(row['high'])}]"


def _impact(trials: pl.DataFrame) -> Impact:
    own = trials.filter(pl.col("draw").is_null())
    half = own.with_columns(away=(pl.col("energy_kept") - 0.5).abs()).sort("away").row(0, named=True)
    controls = trials.filter(pl.col("draw").is_not_null(), pl.col("fraction") == half["fraction"])
    means = controls.select(pl.mean(*MEASURES)).row(0, named=True)
    return Impact(half["method"], half["energy_kept"], {name: half[name] for name in MEASURES}, means)
