"""Overlap of update subspaces: against energy, and by layer and module."""

import altair as alt
import polars as pl

from safespan.report.charts.figure import UNIT, UPDATES, Figure, chart_of, curve, series, tooltip, unique
from safespan.report.tables import PAIR, PLACED, curves_rows, nearest


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
    names = series(means, "series", colours, "Pair of updates" if by else "With the update")
    x = alt.X("energy_fraction:Q", title="Energy fraction of the subspaces", scale=UNIT)
    shown = means.select("panel", "series", "energy_fraction", pl.selectors.starts_with("mso"), "^ceiling$")
    top = " Dotted: the ceiling, one recipe under two seeds." if ceiling.height else ""
    return Figure(
        "overlap_curves",
        "Overlap of update subspaces against energy",
        f"How much of the leading directions two updates share, mean over {unit} groups. Dashed in the same colour: "
        f"the floor, what two random subspaces of those sizes share.{top} Solid well above dashed: a common subspace.",
        "Line charts of mode subspace overlap against energy fraction for each pair of updates, with random baselines.",
        [overlap_panel(shown, x, names, panel, 340, bool(ceiling.height)) for panel in panels],
        2,
        {"rows": shown},
    )


def overlap_panel(
    rows: pl.DataFrame, x: alt.X, names: tuple[alt.Color, alt.Shape], panel: str, width: int, ceiling: bool
) -> alt.LayerChart | alt.FacetChart:
    """Overlap as lines with points, the random baseline dashed in the same colours, the ceiling dotted in grey."""
    color, shape = names
    hover = [name for name in rows.columns if name != "panel"]
    y, floor_y, top_y = (
        alt.Y(f"{value}:Q", title="Overlap (MSO)", scale=UNIT) for value in ("mso", "mso_random", "mean(ceiling)")
    )
    base = chart_of(panel=panel).encode(x=x)
    top = base.mark_line(strokeDash=[1, 3], strokeWidth=1.6, color="#888").encode(y=top_y)
    base = base.encode(color=color)
    floor = base.mark_line(strokeDash=[4, 3], strokeWidth=1.3).encode(y=floor_y, tooltip=tooltip(rows, hover))
    layers = [*([top] if ceiling else []), floor, *curve(base, rows, y, shape, hover, 40)]
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
    panels = [_heat(rows, pair) for pair in unique(rows, "pair")] if by_module else [_heat(rows)]
    places = "layers by modules, one panel per pair of updates" if by_module else "layers by pairs of updates"
    return Figure(
        "overlap_heatmap",
        f"Overlap of update subspaces by place, energy {energy:g}",
        "Overlap less its random floor in each part of the model. The colours run from 0 (chance or less) to 1 (the "
        "most that is possible). A panel “again” is one recipe under two seeds: the ceiling.",
        f"Heat map of overlap above chance, {places}.",
        panels,
        3 if by_module else 1,
        {"rows": rows},
    )


def _heat(rows: pl.DataFrame, pair: str | None = None) -> alt.Chart:
    """Layers by modules for one pair, or layers by all pairs."""
    layers, place = unique(rows, "layer"), "module" if pair else "pair"
    angle, limit = (-60, 90) if pair else (-50, 170)
    columns = alt.Axis(labelAngle=angle, labelLimit=limit)
    width, row, highest = (190, 14, 260) if pair else (620, 15, 480)
    scale = alt.Scale(scheme="oranges", domain=[0, 1], clamp=True)
    chart = chart_of(pair=pair).properties(title=pair) if pair else chart_of()
    return (
        chart.mark_rect()
        .encode(
            x=alt.X(f"{place}:N", title=None, sort=unique(rows, place), axis=columns),
            y=alt.Y(
                "layer:N", title="Layer", sort=layers, axis=alt.Axis(labelLimit=90 if pair else 130, labelOverlap=True)
            ),
            color=alt.Color(
                "above:Q", title="Overlap above chance", scale=scale, legend=alt.Legend(gradientLength=180)
            ),
            tooltip=tooltip(rows, [name for name in rows.columns if pair or name != "module"]),
        )
        .properties(width=width, height=max(60, min(row * len(layers), highest)))
    )
