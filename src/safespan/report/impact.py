"""What a hypothesis does to a model at one place of each test, and what its controls do there."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from safespan.report.words import share
from safespan.statistics.frontier import MOST_LOST

MEASURES = (
    "harmful_probability",
    "useful_probability",
    "compliance",
    "attack_success_rate",
    "utility",
    "refusal_rate",
    "over_refusal_rate",
    "general_ability",
    "harmful_nll",
    "useful_nll",
)
"""Harm is never shown without capability and over-refusal beside it."""

Means = Mapping[str, float | None]
"""Measure -> its mean over prompts."""


@dataclass(frozen=True)
class Impact:
    """A hypothesis at one place of a test.

    Attributes:
        where: the place, in words.
        own: what was measured of the hypothesis.
        beside: what else stands there: means over its random controls; of training also unprotected and clean.
    """

    where: str
    own: Means
    beside: Mapping[str, Means]


def impact_of(results: Mapping[str, pl.DataFrame], test: str, hypothesis: str) -> list[Impact]:
    """Of update at half of the energy, by each method; of ablation where it complies; of training at the end."""
    if test == "training":
        return _at_the_end(results["training"], hypothesis)
    rows = results[test].filter(hypothesis=hypothesis)
    own, controls = (rows.filter(condition) for condition in (pl.col("draw").is_null(), pl.col("draw").is_not_null()))
    return _halfway(own, controls) if test == "update" else _complying(own, controls)


def _halfway(own: pl.DataFrame, controls: pl.DataFrame) -> list[Impact]:
    """By each method where nearest to half of the energy is kept."""
    away = (pl.col("energy_kept") - 0.5).abs()
    impact = []
    for points in own.drop_nulls("energy_kept").partition_by("method", maintain_order=True):
        half = points.sort(away, "fraction").row(0, named=True)
        where = f"{half['method']}, {share(half['energy_kept'])} of the energy kept"
        beside = controls.filter(method=half["method"], fraction=half["fraction"])
        impact.append(Impact(where, _measured(half), {"controls": _means(beside)}))
    return sorted(impact, key=lambda one: one.where, reverse=True)


def _complying(own: pl.DataFrame, controls: pl.DataFrame) -> list[Impact]:
    """The least removal after which the model complies rather than refuses, else that with the most compliance.

    Points that have lost half of the capability are left out.
    """
    kept = own.filter(pl.col("strength") > 0, pl.col("capability_lost") < MOST_LOST)
    if kept.is_empty():
        return []
    complies = pl.col("compliance") > 0.5
    # Of those that comply the least energy removed comes first, of the others the most compliance.
    kept = kept.with_columns(later=pl.when(complies).then("energy_removed").otherwise(1 - pl.col("compliance")))
    first = kept.sort(~complies, "later", "fraction").row(0, named=True)
    strength = "" if first["strength"] == 1 else f", strength {first['strength']:g}"
    where = f"fraction {first['fraction']:g}{strength}, {share(first['capability_lost'])} of the capability lost"
    beside = controls.filter(fraction=first["fraction"], strength=first["strength"])
    return [Impact(where, _measured(first), {"controls": _means(beside)})]


def _at_the_end(training: pl.DataFrame, hypothesis: str) -> list[Impact]:
    """At the last step of each training."""
    ends = training.sort("step").unique(["run", "hypothesis", "group", "draw"], keep="last", maintain_order=True)
    own = ends.filter(run="claim", hypothesis=hypothesis)
    if own.is_empty():
        return []
    row = own.row(0, named=True)
    beside = {"random": ends.filter(run="random", group=row["group"])}
    beside |= {run: ends.filter(run=run) for run in ("unprotected", "clean")}
    return [Impact(f"step {row['step']}, the end", _measured(row), {run: _means(rows) for run, rows in beside.items()})]


def _measured(row: Mapping[str, float | None]) -> Means:
    return {name: row[name] for name in MEASURES}


def _means(rows: pl.DataFrame) -> Means:
    return rows.select(pl.mean(*MEASURES)).row(0, named=True)
