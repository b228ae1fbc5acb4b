"""Overlap of update subspaces: against energy, and by layer and module."""

import altair as alt
import polars as pl

from safespan.report.charts.figure import (
    UNIT,
    UPDATES,
    Figure,
    Panel,
    Series,
    chart_of,
    curve,
    series,
    tooltip,
    unique,
)
from safespan.report.tables import PAIR, PLACED, curves_rows, nearest

_DASHES = {"floor": [4, 3], "ceiling": [1, 3]}


def overlap_curves(overlap: pl.DataFrame, by: str | None = None) -> Figure | None:
    """Mean overlap against energy fraction, between its floor and its ceiling.

    One panel per first update and one colour per second; with a column `by`, one panel for each of its values and one
    colour per pair.
    """
    rows = curves_rows(overlap)
    if rows.is_empty():
        return None
    unit = rows["granularity"][0]
    keys = [by] if by else []
    means = (
        rows.group_by(*keys, "x", "y", "again", "energy_fraction", maintain_order=True)
        .agg(pl.col("mso", "mso_random").mean())
        .sort("energy_fraction")
    )
    ceiling = means.filter("again").group_by(*keys, "energy_fraction", maintain_order=True).agg(ceiling=pl.mean("mso"))
    panel, name = (pl.col(by), PAIR) if by else (pl.col("x") + " update", pl.col("y"))
    means = means.filter(~pl.col("again")).with_columns(panel=panel, series=name)
    if ceiling.height:
        means = means.join(ceiling, on=[*keys, "energy_fraction"], how="left", maintain_order="left")
    order = [f"{name} update" for name in UPDATES]
    panels = sorted(unique(means, "panel"), key=lambda name: order.index(name) if name in order else len(order))
    colours = {} if by else UPDATES
    encodings = series(means, "series", colours, "Pair of updates" if by else "With the update")
    x = alt.X("energy_fraction:Q", title="Energy fraction of the subspaces", scale=UNIT)
    shown = means.select("panel", "series", "energy_fraction", pl.selectors.starts_with("mso"), "^ceiling$")
    top = " Dotted: the ceiling, one recipe under two seeds." if ceiling.height else ""
    return Figure(
        "overlap_curves",
        "Overlap of update subspaces against energy",
        f"How much of the leading directions two updates share, mean over {unit} groups. Dashed in the same colour: "
        f"the floor, what two random subspaces of those sizes share.{top} Solid well above dashed: a common subspace.",
        "Line charts of mode subspace overlap against energy fraction for each pair of updates, with random baselines.",
        [overlap_panel(shown, x, encodings, name, 340, bool(ceiling.height)) for name in panels],
        2,
        {"rows": shown},
    )


def overlap_panel(rows: pl.DataFrame, x: alt.X, encodings: Series, panel: str, width: int, ceiling: bool) -> Panel:
    """Overlap as lines with points, the random baseline dashed in the same colours, the ceiling dotted in grey."""
    hover = tooltip(rows, [name for name in rows.columns if name != "panel"])
    base = chart_of(panel=panel).encode(x=x, color=encodings.color)
    title = "Overlap (MSO)"
    y = alt.Y("mso:Q", title=title, scale=UNIT)
    floor = base.mark_line(strokeDash=_DASHES["floor"], strokeWidth=1.3).encode(
        y=alt.Y("mso_random:Q", title=title, scale=UNIT), tooltip=hover
    )
    top = (
        chart_of(panel=panel)
        .mark_line(strokeDash=_DASHES["ceiling"], strokeWidth=1.6, color="#888")
        .encode(x=x, y=alt.Y("mean(ceiling):Q", title=title, scale=UNIT))
    )
    layers = [*([top] if ceiling else []), floor, *curve(base, y, encodings.shape, hover, 40)]
    return alt.layer(*layers, title=panel, width=width, height=170)


def overlap_heatmap(overlap: pl.DataFrame) -> Figure | None:
    """Overlap above chance at energy one half: layers by modules for each pair, or layers by pairs."""
    rows = overlap.filter(granularity="tensor")
    by_module = not rows.is_empty()
    rows = (rows if by_module else curves_rows(overlap)).drop_nulls(PLACED)
    if rows.is_empty():
        return None
    energy = nearest(rows, "energy_fraction", 0.5)
    rows = (
        rows.filter(pl.col("energy_fraction") == energy)
        .with_columns(
            above=pl.col("mso") - pl.col("mso_random"),
            pair=PAIR,
            layer=pl.col("layer").str.replace("layer ", "").str.replace(r"^model\.", ""),
        )
        .select("pair", "layer", "module", "above", "mso", "mso_random", "k_x", "k_y")
    )
    pairs = unique(rows, "pair")
    panels = [_heat(rows, pair) for pair in pairs] if by_module else [_heat_of_pairs(rows)]
    places = "layers by modules, one panel per pair of updates" if by_module else "layers by pairs of updates"
    return Figure(
        "overlap_heatmap",
        f"Overlap of update subspaces by place, energy {energy:g}",
        "Overlap less its random floor in each part of the model: the deeper the orange, the more directions are "
        "shared; pale means no more than chance. A panel “again” is one recipe under two seeds: the ceiling.",
        f"Heat map of overlap above chance, {places}.",
        panels,
        4 if by_module else 1,
        {"rows": rows},
    )


def _heat_colour(rows: pl.DataFrame) -> alt.Color:
    limit = max(0.05, float(rows["above"].abs().max() or 0))  # type: ignore[arg-type]
    scale = alt.Scale(scheme="blueorange", domain=[-limit, limit])
    return alt.Color("above:Q", title="Overlap above chance", scale=scale, legend=alt.Legend(gradientLength=180))


def _heat(rows: pl.DataFrame, pair: str) -> Panel:
    layers, modules = unique(rows, "layer"), unique(rows, "module")
    return (
        chart_of(pair=pair)
        .mark_rect()
        .encode(
            x=alt.X("module:N", title=None, sort=modules, axis=alt.Axis(labelAngle=-60, labelLimit=90)),
            y=alt.Y("layer:N", title="Layer", sort=layers, axis=alt.Axis(labelLimit=90, labelOverlap=True)),
            color=_heat_colour(rows),
            tooltip=tooltip(rows, rows.columns),
        )
        .properties(title=pair, width=190, height=max(60, min(14 * len(layers), 260)))
    )


def _heat_of_pairs(rows: pl.DataFrame) -> Panel:
    layers, pairs = unique(rows, "layer"), unique(rows, "pair")
    return (
        chart_of()
        .mark_rect()
        .encode(
            x=alt.X("pair:N", title=None, sort=pairs, axis=alt.Axis(labelAngle=-50, labelLimit=170)),
            y=alt.Y("layer:N", title="Layer", sort=layers, axis=alt.Axis(labelLimit=130, labelOverlap=True)),
            color=_heat_colour(rows),
            tooltip=tooltip(rows, [name for name in rows.columns if name != "module"]),
        )
        .properties(width=620, height=max(60, min(15 * len(layers), 480)))
    )
