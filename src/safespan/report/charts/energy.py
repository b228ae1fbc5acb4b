"""Where the energy lies: what projections remove, by layer and module, and the updates' spectra."""

import altair as alt
import polars as pl

from safespan.report.charts.figure import SUBSPACES, UNIT, UPDATES, Figure, band, chart_of, curve, dots, series, unique
from safespan.report.tables import nearest

_BINS = 24
"""Points of a drawn spectrum."""


def energy_inside(inside: pl.DataFrame) -> Figure | None:
    """Share of each update's energy inside each subspace against the fraction, one panel per fine-tune.

    Args:
        inside: columns finetune, subspace, fraction, energy_inside.
    """
    if inside.is_empty():
        return None
    finetunes = unique(inside, "finetune")
    return Figure(
        "energy_inside",
        "Energy of each update inside a subspace",
        "The share of a fine-tuning update's energy that lies in the first share f of a subspace's directions: a "
        "parallel projection keeps it, an orthogonal one keeps the rest. A subspace holds more of the update than "
        "chance where its line is above that of random subspaces.",
        f"Line charts of the energy inside each subspace against the fraction, for {', '.join(finetunes)}.",
        [_inside_panel(inside, name) for name in finetunes],
        2,
        {"rows": inside},
    )


def _inside_panel(rows: pl.DataFrame, finetune: str) -> alt.LayerChart | alt.FacetChart:
    color, shape = series(rows, "subspace", SUBSPACES, "Subspace")
    x = alt.X("fraction:Q", title="Fraction of directions", scale=UNIT)
    y = alt.Y("energy_inside:Q", title="Energy inside", scale=UNIT)
    base = chart_of(finetune=finetune).encode(x=x, color=color)
    lines = curve(base, rows, y, shape, ["subspace", "fraction", "energy_inside"])
    return alt.layer(*lines, title=f"{finetune} update", width=240, height=180)


def removed_energy(removed: pl.DataFrame, place: str) -> Figure | None:
    """Share of each layer's or module's update that a projection removes, at the fraction nearest one half."""
    rows = removed.drop_nulls(["fraction", "removed_energy", place])
    if rows.is_empty():
        return None
    fraction = nearest(rows, "fraction", 0.5)
    share = pl.col("share_of_update")
    rows = (
        rows.filter(fraction=fraction)
        .group_by("finetune", "method", "subspace", "seed", place, maintain_order=True)
        .agg(removed_energy=(pl.col("removed_energy") * share).sum() / share.sum(), share_of_update=share.sum())
        .with_columns(pl.col(place).str.replace(r"^model\.", "").str.replace("^layer ", ""))
    )
    finetunes = unique(rows, "finetune")
    panels = [_removed_panel(rows, place, method, name) for method in unique(rows, "method") for name in finetunes]
    return Figure(
        f"removed_by_{place}",
        f"Energy removed by {place}, fraction {fraction:g}",
        f"The share of each {place}'s own update that the projection takes away; grey bars show how much of the whole "
        f"update lies in that {place}, so a high point over a low bar matters little. Read a point against random: how "
        "much chance takes depends on a matrix's shape.",
        f"Charts of the energy removed in each {place} for the fine-tunes {', '.join(finetunes)}.",
        panels,
        len(finetunes),
        {"rows": rows, "shares": rows.unique(["finetune", place], keep="first", maintain_order=True)},
    )


def _removed_panel(rows: pl.DataFrame, place: str, method: str, finetune: str) -> alt.LayerChart | alt.FacetChart:
    color, shape = series(rows, "subspace", SUBSPACES, "Subspace")
    axis = alt.Axis(labelAngle=-50, labelOverlap="greedy" if place == "layer" else False, labelLimit=110)
    x = alt.X(f"{place}:N", title=place.capitalize(), sort=unique(rows, place), axis=axis)
    y = alt.Y("removed_energy:Q", title="Energy removed", scale=UNIT)
    bars = (
        chart_of("shares", finetune=finetune)
        .mark_bar(color="#8888", width=12)
        .encode(x=x, y=alt.Y("share_of_update:Q"), tooltip=[f"{place}:N", "share_of_update:Q"])
    )
    base = chart_of(finetune=finetune, method=method).encode(x=x, y=y, color=color, detail="seed:N")
    points = dots(base, rows, ["subspace", place, "removed_energy", "share_of_update"], shape=shape)
    # Layers are in order, modules are not: nothing lies between two of them.
    lines = [base.mark_line(strokeWidth=1.5)] if place == "layer" else []
    return alt.layer(bars, *lines, points, title=f"{finetune}, {method}", width=240, height=160)


def spectra(table: pl.DataFrame) -> Figure | None:
    """How fast the updates' singular values fall, and their effective rank by module."""
    if table.is_empty():
        return None
    curves, ranks = _curves(table), _ranks(table)
    colours = series(table, "update", UPDATES, "Update")
    return Figure(
        "spectra",
        "Spectra of the updates",
        "Left: singular values of each update over the largest, median over weight matrices; the band holds 80 % of "
        "them. Right: effective rank, the exponential of the entropy of the singular values, over the full rank. A "
        "flat spectrum has no preferred subspace; a steep one has few directions to take away.",
        "Line chart of relative singular values, and points of effective rank by module, for every update.",
        [_curves_panel(curves, *colours), _ranks_panel(ranks, *colours)],
        2,
        {"rows": curves, "ranks": ranks},
    )


def _curves(table: pl.DataFrame) -> pl.DataFrame:
    """Singular values over the largest of their matrix, by their place in it, over all matrices of an update."""
    return (
        table.with_columns(
            relative=pl.col("singular_value") / pl.col("singular_value").max().over("update", "tensor"),
            depth=(((pl.col("rank") - 1) / (pl.col("n") - 1).clip(1) * (_BINS - 1)).round() / (_BINS - 1)),
        )
        .group_by("update", "depth", maintain_order=True)
        .agg(
            median=pl.median("relative"),
            low=pl.col("relative").quantile(0.1),
            high=pl.col("relative").quantile(0.9),
            tensors=pl.col("tensor").n_unique(),
        )
        .sort("depth")
    )


def _ranks(table: pl.DataFrame) -> pl.DataFrame:
    """Ranks by module, median over layers; every row of a matrix has its ranks, so that one row of each is enough."""
    return (
        table.filter(rank=1)
        .with_columns(share=pl.col("effective_rank") / pl.col("n"))
        .group_by("update", "module", maintain_order=True)
        .agg(pl.median("effective_rank", "stable_rank", "n", "share"))
    )


def _curves_panel(curves: pl.DataFrame, color: alt.Color, shape: alt.Shape) -> alt.LayerChart | alt.FacetChart:
    base = chart_of().encode(
        x=alt.X("depth:Q", title="Place among the singular values (0: first, 1: last)", scale=UNIT),
        color=color,
    )
    scale = alt.Scale(type="log", domain=[1e-4, 1], clamp=True)
    y = alt.Y("median:Q", title="Singular value over the largest", scale=scale)
    hover = ["update", "depth", "median", "low", "high", "tensors"]
    return alt.layer(
        band(base, y, "low", "high", 0.1),
        *curve(base, curves, y, shape, hover, 30),
        title="Singular values, median over tensors",
        width=380,
        height=240,
    )


def _ranks_panel(ranks: pl.DataFrame, color: alt.Color, shape: alt.Shape) -> alt.Chart:
    modules = unique(ranks, "module")
    base = chart_of("ranks").encode(
        x=alt.X("share:Q", title="Effective rank over full rank", scale=UNIT),
        y=alt.Y("module:N", title=None, sort=modules, axis=alt.Axis(labelLimit=130, grid=True)),
        color=color,
    )
    points = dots(base, ranks, ["update", "module", "share", "effective_rank", "stable_rank", "n"], 60, shape=shape)
    return points.properties(title="Effective rank, median over layers", width=380, height=max(120, 20 * len(modules)))
