"""Numbers for the page: the models' table and the facts beside the verdict."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

import polars as pl

from safespan.report.words import number
from safespan.statistics.intervals import wilson

_RATES = {
    "utility": "n_utility",
    "attack_success_rate": "n_harmful",
    "refusal_rate": "n_harmful",
    "over_refusal_rate": "n_benign",
    "general_ability": "n_general",
}

PAIR = pl.when("again").then(pl.col("x") + ", again").otherwise(pl.col("x") + " – " + pl.col("y"))
"""The name of the pair in a row of `overlap`, as the page shows it."""
HALVES = pl.col("x") == pl.col("y")
"""Whether a row of `activations` compares two random halves of one class."""
HALVES_NAME = pl.col("x") + " halves"
PLACED = ["energy_fraction", "mso", "mso_random"]
"""Columns that a row of `overlap` or `activations` needs to be drawn; overlap is empty where an update is zero."""
_APART = 0.95
"""AUROC from which one direction is said to tell two classes apart."""


@dataclass(frozen=True)
class Cell:
    """A rate with its interval, as text."""

    value: str
    interval: str


@dataclass(frozen=True)
class ModelRates:
    """An un-projected model: its five rates, and the mean harmfulness score as text."""

    model: str
    rates: list[Cell]
    harmfulness: str


def model_rows(models: pl.DataFrame) -> list[ModelRates]:
    """The un-projected models in the order of the table."""
    rows = []
    for row in models.iter_rows(named=True):
        judged = {**row, "n_harmful": (row["n_harmful"] or 0) - (row["n_judge_failed"] or 0)}  # rates are over these
        cells = [_cell(row[name], judged[count] or 0) for name, count in _RATES.items()]
        rows.append(ModelRates(row["model"], cells, number(row["harmfulness"])))
    return rows


def _cell(rate: float | None, n: int) -> Cell:
    if rate is None or n <= 0 or not 0 <= rate <= 1:
        return Cell("–", "")
    low, high = wilson(round(rate * n), n)
    return Cell(f"{100 * rate:.1f}", f"{100 * low:.1f} – {100 * high:.1f}")


def mean(table: pl.DataFrame, column: str) -> float:
    """The mean of a column that holds numbers and no gaps."""
    return fmean(table[column].to_list())


def nearest(table: pl.DataFrame, column: str, value: float) -> float:
    """The value that `column` holds nearest to `value`."""
    return float(min(table[column].drop_nulls().unique().to_list(), key=lambda seen: (abs(seen - value), seen)))


def halfway_facts(projection: pl.DataFrame, finetune: str, method: str) -> list[str]:
    """Utility and attack success of alignment where half of the energy is kept, and of random where as much is kept.

    Random is left out where its grid has no point within a tenth of that energy.
    """
    measured = ["energy_kept", "utility", "attack_success_rate"]
    rows = projection.filter(finetune=finetune, method=method).drop_nulls(["fraction", *measured])
    rows = rows.group_by("subspace", "fraction", maintain_order=True).agg(pl.mean(*measured))  # over draws
    own, random = (rows.filter(subspace=name) for name in ("alignment", "random"))
    if own.is_empty():
        return []
    half = own.sort((pl.col("energy_kept") - 0.5).abs()).row(0, named=True)
    away = (pl.col("energy_kept") - half["energy_kept"]).abs()
    beside = random.filter(away < 0.1).sort(away).head(1).rows(named=True)
    parts = [
        f"{row['subspace']} {row['utility']:.0%} utility and {row['attack_success_rate']:.0%} attack success "
        f"({row['energy_kept']:.0%} of the energy kept)"
        for row in (half, *beside)
    ]
    return [f"{finetune.capitalize()} fine-tune: {'; '.join(parts)}."]


def overlap_facts(overlap: pl.DataFrame) -> list[str]:
    """Mean overlap of the alignment update with the harmful and with the useful one at energy one half."""
    rows = curves_rows(overlap)
    if rows.is_empty():
        return []
    energy = nearest(rows, "energy_fraction", 0.5)
    parts = []
    rows = rows.filter(energy_fraction=energy).with_columns(pair=PAIR)
    for second in ("harmful", "useful"):
        groups = rows.filter(x="alignment", y=second)
        if not groups.is_empty():
            mso, floor = mean(groups, "mso"), mean(groups, "mso_random")
            parts.append(f"{groups['pair'][0]} {mso:.2f} (floor {floor:.2f})")
    if not parts:
        return []
    again = rows.filter("again")
    if not again.is_empty():
        names = ", ".join(again["pair"].unique(maintain_order=True))
        parts.append(f"one recipe under two seeds, the ceiling, {mean(again, 'mso'):.2f} ({names})")
    unit = rows["granularity"][0]
    return [f"Overlap of updates at energy {energy:g}, mean over {unit} groups: {'; '.join(parts)}."]


def activation_facts(activations: pl.DataFrame) -> list[str]:
    """The largest gap between centred activation overlap and its floor, and the ceiling at the same place."""
    every = activations.filter("centered").drop_nulls(PLACED)
    rows = every.filter(~HALVES)
    if rows.is_empty():
        return []
    gap = pl.col("mso") - pl.col("mso_random")
    top = rows.with_columns(gap=gap).sort(gap.abs(), descending=True).row(0, named=True)
    place = {name: top[name] for name in ("model", "layer", "energy_fraction")}
    same = every.filter(HALVES, **place).select(HALVES_NAME, "mso").rows()
    halves = "".join(f"; {name} {mso:.2f}" for name, mso in same)
    return [
        f"Largest gap between centred activation overlap and its floor: {top['gap']:+.2f} "
        f"({top['model']} model, layer {top['layer']}, energy {top['energy_fraction']:g}; "
        f"overlap {top['mso']:.2f}{halves})."
    ]


def separation_facts(separation: pl.DataFrame, activations: pl.DataFrame) -> list[str]:
    """Whether one direction tells the classes apart, and whether their subspaces overlap in the same places.

    Apart: held-out AUROC of the difference of means at least 0.95. Overlapping: centred MSO at the energy nearest one
    half above the middle between the floor and the ceiling: the mean of the classes' halves, or 1 where not measured.
    """
    centred = activations.filter("centered").drop_nulls(PLACED)
    if centred.is_empty() or separation.is_empty():
        return []
    place = ["model", "layer"]
    energy = nearest(centred, "energy_fraction", 0.5)
    centred = centred.filter(energy_fraction=energy)
    ceiling = centred.filter(HALVES).group_by(place).agg(ceiling=pl.mean("mso"))
    rows = (
        separation.drop_nulls("mean_difference_auroc")
        .join(centred.filter(~HALVES).select(*place, "mso", "mso_random"), on=place, maintain_order="left")
        .join(ceiling, on=place, how="left", maintain_order="left")
        .with_columns(
            apart=pl.col("mean_difference_auroc") >= _APART,
            overlapping=pl.col("mso") > (pl.col("mso_random") + pl.col("ceiling").fill_null(1.0)) / 2,
        )
    )
    kinds = (
        (True, True, "told apart by one direction (AUROC of at least 0.95) although their subspaces overlap"),
        (True, False, "told apart by one direction (AUROC of at least 0.95), and their subspaces overlap little"),
        (
            False,
            True,
            "told apart less well by the difference of their means (AUROC under 0.95), and their subspaces overlap",
        ),
        (
            False,
            False,
            "told apart less well by the difference of their means (AUROC under 0.95); their subspaces overlap little",
        ),
    )
    facts = []
    for apart, overlapping, words in kinds:
        places = rows.filter(apart=apart, overlapping=overlapping)
        if not places.is_empty():
            # The place that says it most clearly.
            row = places.sort("mso", descending=overlapping).row(0, named=True)
            halves = "" if row["ceiling"] is None else f", two halves of one class {row['ceiling']:.2f}"
            facts.append(
                f"Useful and harmful prompts are {words} at {places.height} of {rows.height} layers of all models: "
                f"{row['model']} model, layer {row['layer']}, AUROC on held-out prompts "
                f"{_interval(row, 'mean_difference_auroc')} by the difference of means and "
                f"{_interval(row, 'probe_auroc')} by a linear probe; centred overlap {row['mso']:.2f} at energy "
                f"{energy:g}, floor {row['mso_random']:.2f}{halves}."
            )
    return facts


def _interval(row: Mapping[str, float | None], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return number(row[name]) + ("" if low is None else f" ({number(low)} – {number(high)})")


def judge_facts(models: pl.DataFrame, projection: pl.DataFrame) -> list[str]:
    """How many judgements failed, and which models and points are invalid for it; nothing where none failed."""
    counts = [table.select(pl.sum("n_judge_failed", "n_harmful")).row(0) for table in (models, projection)]
    failed, asked = (sum(column) for column in zip(*counts, strict=True))
    if not failed:
        return []
    names = models.filter(~pl.col("valid"))["model"].to_list()
    points = projection.filter(~pl.col("valid"))
    names += [" ".join(map(str, row)) for row in points.select("finetune", "subspace", "method", "fraction").rows()]
    invalid = f"; invalid, over 2 % failed: {', '.join(names)}" if names else "; no point is invalid (over 2 %) for it"
    return [f"Judgements that failed: {failed} of {asked}{invalid}."]


def no_answer_facts(models: pl.DataFrame) -> list[str]:
    """Which models gave how many responses without an answer; nothing where all answered."""
    rows = models.filter(pl.col("n_no_answer") > 0)
    counts = ("n_utility", "n_general", "n_harmful", "n_benign")
    told = [
        f"{row['model']} {row['n_no_answer']} of {sum(row[name] or 0 for name in counts)}"
        for row in rows.iter_rows(named=True)
    ]
    if not told:
        return []
    return [
        f"Responses without an answer (empty, or cut off in the thinking): {', '.join(told)}. They count as no success "
        "and no refusal."
    ]


def curves_rows(overlap: pl.DataFrame) -> pl.DataFrame:
    """The rows that overlap is averaged over: whole layers where measured, else tensors; zero updates left out."""
    kind = "layer" if "layer" in overlap["granularity"] else "tensor"
    return overlap.filter(granularity=kind).drop_nulls(PLACED)
