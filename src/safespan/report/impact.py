"""What a hypothesis does to a model at one place of each test, and what its controls do there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from safespan.report.words import share
from safespan.settings.names import EDIT
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

CAPABILITY_LOST = (
    "Capability lost: by which share the probability of a token of the right answers has fallen (geometric mean over "
    "useful and general prompts). An answer stays right while its tokens are still the most probable ones, so general "
    "ability can be whole where this probability has fallen"
)
READING = {
    "update": "Compared at the smallest part of the update, or the strongest edit, that keeps at least half of the "
    "fine-tune’s gain in utility over the aligned model (results/models.csv). Each method has a fraction of its own, "
    "so the energies kept do not add up to 100 %. Controls stand at the same fraction",
    "ablation": "Compared at the least removal after which compliance is above 0.5, or else at the one with the most "
    f"compliance, before half of the capability is lost. {CAPABILITY_LOST}",
}
"""Test -> where a hypothesis is compared, and what the words of this place mean."""


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
    """Of update where it still has utility, by each method; of ablation where it complies; of training at the end."""
    if test == "training":
        return _at_the_end(results["training"], hypothesis)
    rows = results[test].filter(hypothesis=hypothesis)
    own, controls = (rows.filter(condition) for condition in (pl.col("draw").is_null(), pl.col("draw").is_not_null()))
    return _useful(own, controls, results["models"]) if test == "update" else _complying(own, controls)


def _useful(own: pl.DataFrame, controls: pl.DataFrame, models: pl.DataFrame) -> list[Impact]:
    """Of each fine-tune, by each method, where the least of it is left with half of its gain in utility."""
    impact = []
    places = own.drop_nulls("energy_kept").sort("finetune", "method", descending=[False, True])
    for (finetune, method), points in places.partition_by(
        "finetune", "method", maintain_order=True, as_dict=True
    ).items():
        place, why = _place(points, str(method), _halfway(models, str(finetune)))
        kept = share(place["energy_kept"])
        energy = f"{kept} of its energy" if method == EDIT else f"{kept} of the energy kept"
        of = f"{finetune} fine-tune" if own["finetune"].n_unique() > 1 else ""
        beside = controls.filter(finetune=finetune, method=method, fraction=place["fraction"])
        where = ", ".join(filter(None, [str(method), f"fraction {place['fraction']:g}", energy, of, why]))
        impact.append(Impact(where, _measured(place), {"controls": _means(beside)}))
    return impact


def _place(points: pl.DataFrame, method: str, halfway: float | None) -> tuple[dict[str, Any], str]:
    """The row that is compared, and in words why it is not one with half of the gain in utility; empty if it is."""
    if halfway is None or points["utility"].null_count() == points.height:
        away = (pl.col("energy_kept") - 0.5).abs()
        why = "nearest to half of the energy, as utility was not measured or not gained"
        return points.sort(away, "fraction").row(0, named=True), why
    # A parallel part grows with the fraction. What is left by the other methods shrinks with it.
    ordered = points.drop_nulls("utility").sort("fraction", descending=method != "parallel")
    useful = ordered.filter(pl.col("utility") >= halfway)
    if not useful.is_empty():
        return useful.row(0, named=True), ""
    most = ordered.sort("utility", descending=True, maintain_order=True).row(0, named=True)
    return most, f"the most utility that it has, but less than {share(halfway)}, half of the gain"


def _halfway(models: pl.DataFrame, finetune: str) -> float | None:
    """Utility halfway from the aligned model to a fine-tune; None where it was not measured, or not gained."""
    utility = dict(models.select("model", "utility").rows())
    aligned, tuned = utility.get("aligned"), utility.get(finetune)
    return None if aligned is None or tuned is None or tuned <= aligned else (aligned + tuned) / 2


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
