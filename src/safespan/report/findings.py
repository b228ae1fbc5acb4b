"""What the analysis commands found, in a few lines and as data: figures of their tables, and no verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from rich.table import Table

from safespan.report.tables import PAIR, PLACED, nearest
from safespan.report.words import number

_RANDOM = ("random-k", "random")
_SENTENCES, _ROWS, _COLUMNS = 2, 6, 5
"""Sentences, rows and columns of numbers that are shown; a command writes all of them to its table."""
_QUARTER = 0.25
_ENERGIES = (0.1, 0.5, 0.9)
_HALF = 0.5


@dataclass(frozen=True)
class Findings:
    """What was found.

    Attributes:
        rows: for programs.
        lines: for people.
    """

    rows: list[dict[str, Any]]
    lines: list[str | Table]


def sweep_findings(points: pl.DataFrame) -> Findings:
    """The share of each update's energy inside each subspace, beside that of a random subspace at the same fraction.

    Args:
        points: rows of `EnergyRow`, of one seed.
    """
    inside = energy_inside(points)
    if inside.is_empty():
        return Findings([], ["No update has energy: these fine-tunes do not differ from the aligned model."])
    zero = [name for name in points["finetune"].unique(maintain_order=True) if name not in set(inside["finetune"])]
    claims_first = inside.sort(pl.col("subspace").is_in(_RANDOM), maintain_order=True)
    by_place = claims_first.partition_by("finetune", "subspace", maintain_order=True, as_dict=True)
    fractions = _spread(sorted(inside["fraction"].unique().to_list()), _COLUMNS)
    table = plain_table("update", "subspace", *(f"f = {fraction:g}" for fraction in fractions))
    for place, rows in list(by_place.items())[:_ROWS]:
        cells = {row["fraction"]: _times(row) for row in rows.iter_rows(named=True)}
        table.add_row(*map(str, place), *(cells[fraction] for fraction in fractions))
    return Findings(
        inside.to_dicts(),
        [
            *([f"Without energy, as equal to the aligned model: {', '.join(zero)}."] if zero else []),
            *_inside_in_words(inside),
            "Share of each update's energy inside a subspace: parallel keeps this part, orthogonal the rest. f is the "
            "share of the directions of each matrix. In brackets: how many times the share inside a random "
            "subspace at the same f. A subspace with fewer directions than f asks for, such as that of a LoRA update, "
            "is compared with a random one of more directions.",
            table,
            *_left_out(len(by_place), "rows"),
        ],
    )


def energy_inside(points: pl.DataFrame) -> pl.DataFrame:
    """The energy inside each subspace, from the points of any method, beside that of a random one at the same f."""
    kept = pl.col("energy_kept")
    keys = ["finetune", "subspace", "fraction"]
    inside = (
        points.drop_nulls("energy_kept")
        .with_columns(energy_inside=pl.when(pl.col("method") == "orthogonal").then(1 - kept).otherwise(kept))
        .unique(keys, keep="first", maintain_order=True)
        .select(*keys, "energy_inside")
    )
    random = inside.filter(subspace="random").select("finetune", "fraction", energy_random="energy_inside")
    known = pl.when(pl.col("energy_random") > 0).then(pl.col("energy_inside") / pl.col("energy_random"))
    return inside.join(random, on=["finetune", "fraction"], how="left", maintain_order="left").with_columns(
        times_random=known
    )


def overlap_findings(overlap: pl.DataFrame) -> Findings:
    """Mean overlap of each pair of updates over the tensors or layers, with its floor.

    Args:
        overlap: rows of `OverlapRow`, of one granularity.
    """
    rows = overlap.drop_nulls(PLACED)
    if rows.is_empty():
        return Findings([], ["No pair of updates can be compared: in each, one update is zero everywhere."])
    means = (
        rows.group_by("x", "y", "again", "energy_fraction", maintain_order=True)
        .agg(pl.mean("mso", "mso_random"), groups=pl.len())
        .with_columns(pair=PAIR)
        .sort("energy_fraction", maintain_order=True)
    )
    energies = list(dict.fromkeys(nearest(rows, "energy_fraction", energy) for energy in _ENERGIES))
    pairs = means.partition_by("pair", maintain_order=True, as_dict=True)
    table = plain_table("pair of updates", *(f"energy {energy:g}" for energy in energies))
    for (pair,), own in list(pairs.items())[:_ROWS]:
        cells = {row["energy_fraction"]: row for row in own.iter_rows(named=True)}
        table.add_row(str(pair), *(_with_floor(cells.get(energy)) for energy in energies))
    unit = {"tensor": "tensors", "layer": "layers (by number of columns)"}[rows["granularity"][0]]
    return Findings(
        means.drop("pair").to_dicts(),
        [
            f"Overlap of updates (MSO), mean over {unit}, with its floor: what two unrelated subspaces of these ranks "
            "share. Two trainings of one recipe need not reach 1 either; this command does not measure that (the "
            "ceiling).",
            *_zeros(overlap, unit),
            table,
            *_left_out(len(pairs), "pairs"),
        ],
    )


def _zeros(overlap: pl.DataFrame, unit: str) -> list[str]:
    """How many places of each pair have no overlap, so that its mean is over fewer than those of other pairs."""
    energy = nearest(overlap, "energy_fraction", _HALF)
    counts = (
        overlap.filter(energy_fraction=energy)
        .group_by(PAIR.alias("pair"), maintain_order=True)
        .agg(zero=pl.col("mso").is_null().sum(), every=pl.len())
        .filter(pl.col("zero") > 0)
    )
    if counts.is_empty():
        return []
    told = ", ".join(f"{row['pair']} {row['zero']} of {row['every']}" for row in counts.head(_ROWS).to_dicts())
    return [f"Left out of the mean, as an update is zero there ({unit}): {told}."]


def activation_findings(activations: pl.DataFrame, separation: pl.DataFrame) -> Findings:
    """Overlap of the two classes of prompts at each layer, with its floor and p-value, and AUROC of one direction.

    Args:
        activations: rows of `ActivationRow`, of one model, centred or not.
        separation: rows of `SeparationRow` of the same layers.
    """
    energy = nearest(activations, "energy_fraction", _HALF)
    overlaps = activations.filter(energy_fraction=energy).select(
        "model", "layer", "centered", "energy_fraction", "mso", "mso_random", "p_value"
    )
    aurocs = separation.select("layer", "mean_difference_auroc", "probe_auroc")
    rows = overlaps.join(aurocs, on="layer", how="left", maintain_order="left")
    centred = bool(rows["centered"].all())
    kind = "centred" if centred else "raw"
    table = plain_table("layer", "overlap", "floor", "p", "AUROC, means", "AUROC, probe")
    for row in _spread(rows.rows(named=True), _ROWS):
        cells = [number(row["mso"]), number(row["mso_random"]), _p(row["p_value"])]
        cells += [number(row["mean_difference_auroc"]), number(row["probe_auroc"])]
        table.add_row(str(row["layer"]), *cells)
    lines: list[str | Table] = [
        f"Overlap of useful and harmful activations (MSO, {kind}, energy {energy:g}), model {rows['model'][0]}: "
        f"{_range(rows, 'mso')}; floor {_range(rows, 'mso_random')}{_below(rows)}",
        *([] if centred else ["All activations have a large common mean, which raises the overlap: see --center."]),
        _auroc_line(rows),
        table,
        *_left_out(rows.height, "layers"),
    ]
    return Findings(rows.to_dicts(), lines)


def _inside_in_words(inside: pl.DataFrame) -> list[str]:
    """A sentence for each of the first fine-tunes, about the first subspace that is not random, near f = 1/4."""
    claims = inside.filter(~pl.col("subspace").is_in(_RANDOM))
    if claims.is_empty():
        return []
    near = claims.filter(fraction=nearest(claims, "fraction", _QUARTER)).unique(
        "finetune", keep="first", maintain_order=True
    )
    lines = []
    for row in near.head(_SENTENCES).iter_rows(named=True):
        times = row["times_random"]
        beside = "" if times is None else f", {_ratio(times)} times what a random subspace at the same f holds"
        lines.append(
            f"{row['subspace']} holds {row['energy_inside']:.2f} of the {row['finetune']} update's energy at "
            f"f = {row['fraction']:g}{beside}."
        )
    return lines


def _times(row: dict[str, Any]) -> str:
    own = row["subspace"] == "random" or row["times_random"] is None
    return number(row["energy_inside"]) + ("" if own else f" ({_ratio(row['times_random'])} ×)")


def _ratio(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _with_floor(row: dict[str, Any] | None) -> str:
    return "–" if row is None else f"{row['mso']:.2f} (floor {row['mso_random']:.2f})"


def _below(rows: pl.DataFrame) -> str:
    """At how many layers the classes overlap less than random groups; empty where no permutations were drawn."""
    known = rows.drop_nulls("p_value")
    if known.is_empty():
        return ""
    fewer = known.filter(pl.col("p_value") < 0.05).height
    return (
        f"; less than random groups of the same prompts at {fewer} of {known.height} layers (p < 0.05 at each, not "
        f"corrected for their number; smallest p {_p(known['p_value'].min())})"
    )


def _p(value: Any) -> str:
    """A p-value. It is never zero: of n permutations the smallest is 1 / (n + 1)."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _auroc_line(rows: pl.DataFrame) -> str:
    known = rows.drop_nulls(["mean_difference_auroc", "probe_auroc"])
    if known.is_empty():
        return "No AUROC: too few prompts for cross-validation."
    return (
        "AUROC on held-out prompts, useful against harmful (0.5 is chance): by the difference of means "
        f"{_range(known, 'mean_difference_auroc')}, by a linear probe {_range(known, 'probe_auroc')}"
    )


def _range(rows: pl.DataFrame, column: str) -> str:
    """The smallest and the largest value, with their layers."""
    known = rows.drop_nulls(column).sort(column)
    if known.is_empty():
        return "–"
    low, high = (
        f"{row[column]:.2f} (layer {row['layer']})" for row in (known.row(0, named=True), known.row(-1, named=True))
    )
    if known.height > 1 and (value := low.partition(" ")[0]) == high.partition(" ")[0]:
        return f"{value} ({known.height} layers)"
    return low if known.height == 1 else f"{low} to {high}"


def _spread(values: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the values, evenly over all, the first and the last among them."""
    last = len(values) - 1
    if last < most:
        return list(values)
    return [values[round(place * last / (most - 1))] for place in range(most)]


def _left_out(number_of: int, unit: str) -> list[str]:
    return [f"{_ROWS} of {number_of} {unit} are shown; the table has all."] if number_of > _ROWS else []


def plain_table(*columns: str) -> Table:
    """A table without lines, for the terminal."""
    table = Table(*columns, box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.columns[0].no_wrap = True
    return table
