"""Activations by depth: how far the classes' subspaces overlap, and how well one direction tells them apart."""

import altair as alt
import polars as pl

from safespan.report.charts.figure import ONE, Figure, band, chart_of, curve, series, unique
from safespan.report.charts.overlap import overlap_panel
from safespan.report.tables import HALVES, HALVES_NAME, PLACED, nearest

_KINDS = {"raw": "#A67C00", "centred": "#7A5CC7", "useful halves": "#2A7F8E", "harmful halves": "#B5476B"}
_LAYER = alt.X("layer:O", title="Layer", axis=alt.Axis(labelAngle=0, labelOverlap=True))
_PROBES = {"linear probe": "#0072B2", "difference of means": "#D55E00"}


def activation_overlap(activations: pl.DataFrame, by: str = "model") -> Figure | None:
    """Overlap of useful and harmful prompts' activations by layer, raw and centred, one panel per value of `by`.

    Where halves of a class were compared, their centred overlap is drawn too.
    """
    rows = activations.drop_nulls(PLACED)
    if rows.is_empty():
        return None
    energy = nearest(rows, "energy_fraction", 0.5)
    centred = pl.when("centered").then(pl.lit("centred")).otherwise(pl.lit("raw"))
    kind = pl.when(HALVES).then(HALVES_NAME).otherwise(centred)
    rows = rows.filter(~HALVES | pl.col("centered"), energy_fraction=energy).select(
        pl.col(by).alias("panel"), "layer", kind.alias("series"), "mso", "mso_random", "k_x", "k_y"
    )
    names = series(rows, "series", _KINDS, "Activations")
    return Figure(
        "activation_overlap",
        f"Overlap of useful and harmful activations by layer, energy {energy:g}",
        "How much of their leading directions useful and harmful prompts share, dashed the random floor. Raw "
        "activations share their mean, which alone lifts the overlap; centred ones do not. Halves, where measured: two "
        "random halves of one class, centred, the most overlap to be had from so few prompts.",
        f"Line charts of activation overlap by layer, raw and centred, one panel per {by}.",
        [overlap_panel(rows, _LAYER, names, panel, 240, False) for panel in unique(rows, "panel")],
        3,
        {"rows": rows},
    )


def separation(table: pl.DataFrame, by: str = "model") -> Figure | None:
    """Held-out AUROC of a linear probe and of the difference of means by layer, one panel per value of `by`."""
    kinds = {"linear probe": "probe_auroc", "difference of means": "mean_difference_auroc"}
    parts = [
        table.select(panel=by, layer="layer", series=pl.lit(kind), auroc=name, low=f"{name}_low", high=f"{name}_high")
        for kind, name in kinds.items()
    ]
    rows = pl.concat(parts).drop_nulls("auroc")
    if rows.is_empty():
        return None
    return Figure(
        "separation",
        "Useful and harmful prompts told apart by one direction",
        "AUROC on held-out prompts of a linear probe and of the difference of the classes' means, at each layer; bands "
        "are 95 % intervals, the rule at 0.5 is a coin. Classes can be told apart by one direction while their "
        "subspaces overlap: a direction is no subspace.",
        f"Line charts of AUROC by layer for two directions, one panel per {by}.",
        [_auroc_panel(rows, name) for name in unique(rows, "panel")],
        3,
        {"rows": rows},
    )


def _auroc_panel(rows: pl.DataFrame, panel: str) -> alt.LayerChart | alt.FacetChart:
    color, shape = series(rows, "series", _PROBES, "Direction")
    base = chart_of(panel=panel).encode(x=_LAYER, color=color)
    y = alt.Y("auroc:Q", title="AUROC, held out", scale=alt.Scale(domain=[0.4, 1], clamp=True))
    coin = alt.Chart(ONE).mark_rule(strokeDash=[4, 3]).encode(y=alt.datum(0.5))
    line = curve(base, rows, y, shape, ["series", "layer", "auroc", "low", "high"], 40)
    return alt.layer(band(base, y, "low", "high", 0.15), coin, *line, title=panel, width=240, height=150)
