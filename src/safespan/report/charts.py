"""The charts: each takes a table and gives a figure, or None where the table has nothing to show.

A figure of several panels is a `concat`; the page lays its panels out afresh for the width at hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import polars as pl

from safespan.report.tables import curves_rows, nearest

# Okabe and Ito's colours: apart for every kind of colour vision, and 3 : 1 on a white as on a dark ground.
SUBSPACES = {"alignment": "#D55E00", "safety": "#009E73", "random-k": "#CC79A7", "random": "#0072B2"}
UPDATES = {
    "alignment": "#D55E00",
    "safety": "#009E73",
    "useful": "#4F7FD9",
    "harmful": "#C8475F",
    "contaminated": "#A67C00",
}
_OTHER = "#7A5CC7"
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
_OUTCOMES = {
    "utility": ("Utility", "utility_ci_low", "utility_ci_high"),
    "attack_success_rate": ("Attack success rate", "asr_ci_low", "asr_ci_high"),
}
_AXES = {"fraction": "Fraction of directions", "energy_kept": "Energy kept"}
_HEAT_TENSORS = 64
"""With more tensors than this the heat map has no legible rows, and layers are shown if there are any."""


Panel = alt.LayerChart | alt.FacetChart


@dataclass(frozen=True)
class Figure:
    """A chart with the words that belong to it."""

    name: str
    title: str
    caption: str
    description: str
    chart: alt.ConcatChart | alt.Chart


def _figure(name: str, title: str, caption: str, description: str, panels: Sequence[Panel], columns: int) -> Figure:
    chart = alt.concat(*panels, columns=columns, spacing=24)
    return Figure(name, title, caption, description, chart)


def _data(rows: pl.DataFrame, *columns: str) -> alt.InlineData:
    # Inline values: altair's limit on rows is for notebooks, and only the columns used go into the page.
    kept = rows.select(list(dict.fromkeys(columns)))
    return alt.InlineData(values=kept.with_columns(pl.selectors.float().round(4)).to_dicts())


_ACTIVATIONS = {"raw": "#A67C00", "centred": "#7A5CC7", "useful halves": "#2A7F8E", "harmful halves": "#B5476B"}


def _series(field: str, names: Sequence[str], colours: dict[str, str], title: str) -> dict[str, Any]:
    """Colour and shape encodings of a named series, the same for every panel."""
    known = [name for name in colours if name in names]
    domain = known + [name for name in names if name not in colours]
    scale = alt.Scale(domain=domain, range=[colours.get(name, _OTHER) for name in domain])
    shapes = alt.Scale(domain=domain, range=[_SHAPES[i % len(_SHAPES)] for i in range(len(domain))])
    return {
        "color": alt.Color(f"{field}:N", scale=scale, title=title),
        "shape": alt.Shape(f"{field}:N", scale=shapes, title=title),
    }


def _tooltip(rows: pl.DataFrame, columns: Sequence[str]) -> list[str]:
    return [f"{name}:{'N' if rows.schema[name] == pl.String else 'Q'}" for name in columns]


def _unique(table: pl.DataFrame, column: str) -> list[str]:
    return [str(value) for value in table[column].drop_nulls().unique(maintain_order=True)]


def projection_curves(projection: pl.DataFrame, models: pl.DataFrame, method: str, axis: str) -> Figure | None:
    """Utility and attack success against fraction or energy kept, one column of panels per fine-tune."""
    rows = projection.filter(pl.col("method") == method).drop_nulls(axis)
    outcomes = [name for name in _OUTCOMES if rows[name].drop_nulls().len()]
    if rows.is_empty() or not outcomes:
        return None
    finetunes = _unique(rows, "finetune")
    panels = [
        _projection_panel(rows.filter(pl.col("finetune") == finetune), _unique(rows, "subspace"), models, outcome, axis)
        for outcome in outcomes
        for finetune in finetunes
    ]
    against = "the fraction of directions" if axis == "fraction" else "the share of the update's energy kept"
    kept = "only the part inside the subspace is kept" if method == "parallel" else "that part is removed"
    return _figure(
        f"{method}_{axis}",
        f"{method.capitalize()} projection against {_AXES[axis].lower()}",
        f"What is left of each fine-tune when {kept}, against {against}; bands are 95 % intervals, horizontal rules "
        "the un-projected models. A subspace is special only where its two curves part from the random ones in "
        "different ways.",
        f"Line charts of {' and '.join(name.replace('_', ' ') for name in outcomes)} against {against}, "
        f"{method} projection, for the fine-tunes {', '.join(finetunes)}.",
        panels,
        len(finetunes),
    )


def _projection_panel(
    rows: pl.DataFrame, subspaces: Sequence[str], models: pl.DataFrame, outcome: str, axis: str
) -> Panel:
    label, low, high = _OUTCOMES[outcome]
    finetune = rows["finetune"][0]
    tooltip = ["subspace", "fraction", "energy_kept", outcome, low, high]
    series = _series("subspace", subspaces, SUBSPACES, "Subspace")
    base = alt.Chart(_data(rows, *tooltip, "seed")).encode(
        x=alt.X(f"{axis}:Q", title=_AXES[axis], scale=alt.Scale(domain=[0, 1])),
        color=series["color"],
        detail="seed:N",
    )
    y = alt.Y(f"{outcome}:Q", title=label, scale=alt.Scale(domain=[0, 1]))
    band = base.mark_area(opacity=0.13).encode(y=alt.Y(f"{low}:Q", title=label), y2=f"{high}:Q")
    line = base.mark_line(strokeWidth=2).encode(y=y)
    points = base.mark_point(filled=True, size=45, opacity=1).encode(
        y=y,
        shape=series["shape"],
        tooltip=_tooltip(rows, tooltip),
    )
    whole = models.filter(pl.col("model").is_in(["aligned", finetune])).with_columns(
        which=pl.when(pl.col("model") == "aligned").then(pl.lit("aligned")).otherwise(pl.lit("fine-tuned"))
    )
    rules = (
        alt.Chart(_data(whole, "which", "model", outcome))
        .mark_rule(strokeWidth=1.5)
        .encode(
            y=y,
            strokeDash=alt.StrokeDash(
                "which:N",
                title="Un-projected",
                scale=alt.Scale(domain=["aligned", "fine-tuned"], range=[[2, 3], [8, 3]]),
            ),
            tooltip=["model:N", f"{outcome}:Q"],
        )
    )
    return alt.layer(band, rules, line, points, title=f"{finetune} fine-tune", width=240, height=180)


def overlap_curves(overlap: pl.DataFrame) -> Figure | None:
    """Mean overlap against energy fraction: one panel per first update, one colour per second."""
    rows = curves_rows(overlap)
    if rows.is_empty():
        return None
    unit = rows["granularity"][0]
    means = (
        rows.group_by("pair", "energy_fraction", maintain_order=True)
        .agg(pl.col("mso", "mso_random").mean())
        .with_columns(pl.col("pair").str.split_exact("-", 1).struct.rename_fields(["first", "second"]))
        .unnest("pair")
        .sort("energy_fraction")
    )
    series = _series("second", _unique(means, "second"), UPDATES, "With the update")
    x = alt.X("energy_fraction:Q", title="Energy fraction of the subspaces", scale=alt.Scale(domain=[0, 1]))
    columns = ["first", "second", "energy_fraction", "mso", "mso_random"]
    panels = [
        _overlap_panel(means.filter(pl.col("first") == first), columns, x, series, f"{first} update", width=340)
        for first in sorted(_unique(means, "first"), key=lambda name: [*UPDATES, name].index(name))
    ]
    return _figure(
        "overlap_curves",
        "Overlap of update subspaces against energy",
        f"How much of the leading directions two updates share, mean over {unit} groups; the dashed line of the same "
        "colour is what two random subspaces of those sizes share. Solid well above dashed: a common subspace.",
        "Line charts of mode subspace overlap against energy fraction for each pair of updates, with random baselines.",
        panels,
        2,
    )


def _overlap_panel(
    rows: pl.DataFrame, columns: Sequence[str], x: alt.X, series: dict[str, Any], title: str, width: int
) -> Panel:
    """Overlap as lines with points, the random baseline dashed in the same colours."""
    tooltip = _tooltip(rows, columns)
    base = alt.Chart(_data(rows, *columns)).encode(x=x, color=series["color"])
    domain = alt.Scale(domain=[0, 1])
    y = alt.Y("mso:Q", title="Overlap (MSO)", scale=domain)
    chance = base.mark_line(strokeDash=[4, 3], strokeWidth=1.3).encode(
        y=alt.Y("mso_random:Q", title="Overlap (MSO)", scale=domain), tooltip=tooltip
    )
    line = base.mark_line(strokeWidth=2).encode(y=y)
    points = base.mark_point(filled=True, size=40, opacity=1).encode(y=y, shape=series["shape"], tooltip=tooltip)
    return alt.layer(chance, line, points, title=title, width=width, height=170)


def overlap_heatmap(overlap: pl.DataFrame) -> Figure | None:
    """Overlap above chance of every pair in every tensor (or layer) at energy one half."""
    rows = overlap.filter(pl.col("granularity") == "tensor")
    if rows.is_empty() or rows["group"].n_unique() > _HEAT_TENSORS:
        rows = curves_rows(overlap)
    rows = rows.drop_nulls(["mso", "mso_random"])
    if rows.is_empty():
        return None
    energy = nearest(rows, "energy_fraction", 0.5)
    short = pl.col("group").str.replace(r"^model\.", "").str.replace(r"\.weight$", "")
    short = short.str.replace("self_attn", "attn").str.replace(r"^layers\.", "")
    rows = rows.filter(pl.col("energy_fraction") == energy).with_columns(
        above=pl.col("mso") - pl.col("mso_random"), group=short
    )
    limit = max(0.05, float(rows["above"].abs().max() or 0))  # type: ignore[arg-type]
    columns = ["pair", "group", "above", "mso", "mso_random", "k_x", "k_y"]
    chart = (
        alt.Chart(_data(rows, *columns))
        .mark_rect()
        .encode(
            x=alt.X("pair:N", title="Pair of updates", sort=None, axis=alt.Axis(labelAngle=-50, labelLimit=150)),
            y=alt.Y("group:N", title="Weights", sort=None, axis=alt.Axis(labelLimit=130)),
            color=alt.Color(
                "above:Q",
                title="Overlap above chance",
                scale=alt.Scale(scheme="blueorange", domain=[-limit, limit]),
            ),
            tooltip=_tooltip(rows, columns),
        )
        .properties(width=620, height=15 * rows["group"].n_unique())
    )
    return Figure(
        "overlap_heatmap",
        f"Overlap of update subspaces by weights, energy {energy:g}",
        "Overlap less its random baseline for each pair of updates in each part of the model: the deeper the orange, "
        "the more directions are shared; pale means no more than chance.",
        f"Heat map of overlap above chance, {rows['group'].n_unique()} parts of the model by "
        f"{rows['pair'].n_unique()} pairs of updates.",
        chart,
    )


def activation_overlap(activations: pl.DataFrame) -> Figure | None:
    """Overlap of useful and harmful prompts' activations by layer, raw and centred, one panel per model.

    Where halves of a class were compared, their centred overlap is drawn too.
    """
    rows = activations.drop_nulls(["mso", "mso_random"])
    if rows.is_empty():
        return None
    energy = nearest(rows, "energy_fraction", 0.5)
    classes = pl.col("pair") == "useful-harmful"
    rows = rows.filter((pl.col("energy_fraction") == energy) & (classes | pl.col("centered"))).with_columns(
        kind=pl.when(~classes).then("pair").when("centered").then(pl.lit("centred")).otherwise(pl.lit("raw"))
    )
    columns = ["model", "layer", "kind", "mso", "mso_random", "k_x", "k_y"]
    series = _series("kind", _unique(rows, "kind"), _ACTIVATIONS, "Activations")
    x = alt.X("layer:O", title="Layer", axis=alt.Axis(labelAngle=0, labelOverlap=True))
    panels = [
        _overlap_panel(rows.filter(pl.col("model") == model), columns, x, series, f"{model} model", width=240)
        for model in _unique(rows, "model")
    ]
    return _figure(
        "activation_overlap",
        f"Overlap of useful and harmful activations by layer, energy {energy:g}",
        "How much of their leading directions useful and harmful prompts share inside each model, dashed the random "
        "baseline. Raw activations share their mean, which alone lifts the overlap; centred ones do not. Halves, where "
        "measured: two random halves of one class, centred, the most overlap to be had from so few prompts.",
        "Line charts of activation overlap by layer, raw and centred, one panel per model.",
        panels,
        3,
    )


def removed_energy(removed: pl.DataFrame) -> Figure | None:
    """Share of each layer's update that a projection removes, at the fraction nearest one half."""
    rows = removed.drop_nulls("removed_energy")
    if rows.is_empty():
        return None
    fraction = nearest(rows, "fraction", 0.5)
    gone, share = pl.col("removed_energy"), pl.col("share_of_update")
    rows = (
        rows.filter(pl.col("fraction") == fraction)
        .group_by("finetune", "subspace", "method", "seed", "layer", maintain_order=True)
        .agg(removed_energy=(gone * share).sum() / share.sum(), share_of_update=share.sum())
        .with_columns(pl.col("layer").str.replace(r"^model\.", ""))
    )
    finetunes, subspaces = _unique(rows, "finetune"), _unique(rows, "subspace")
    columns = ["subspace", "layer", "removed_energy", "share_of_update", "seed"]
    series = _series("subspace", subspaces, SUBSPACES, "Subspace")
    panels = []
    for method in _unique(rows, "method"):
        for finetune in finetunes:
            own = rows.filter(pl.col("method") == method, pl.col("finetune") == finetune)
            x = alt.X("layer:N", title="Layer", sort=None, axis=alt.Axis(labelAngle=-40, labelOverlap="greedy"))
            y = alt.Y("removed_energy:Q", title="Energy removed", scale=alt.Scale(domain=[0, 1]))
            shares = own.unique("layer", keep="first", maintain_order=True)
            bars = (
                alt.Chart(_data(shares, "layer", "share_of_update"))
                .mark_bar(color="#8888", width=12)
                .encode(x=x, y=alt.Y("share_of_update:Q"), tooltip=["layer:N", "share_of_update:Q"])
            )
            base = alt.Chart(_data(own, *columns)).encode(x=x, y=y, color=series["color"], detail="seed:N")
            points = base.mark_point(filled=True, size=45, opacity=1).encode(
                shape=series["shape"],
                tooltip=["subspace:N", "layer:N", "removed_energy:Q", "share_of_update:Q"],
            )
            title = f"{finetune}, {method}"
            panels.append(alt.layer(bars, base.mark_line(strokeWidth=1.5), points, title=title, width=240, height=160))
    return _figure(
        "removed_energy",
        f"Energy removed by layer, fraction {fraction:g}",
        "The share of each layer's own update that the projection takes away; grey bars show how much of the whole "
        "update lies in that layer, so a high point over a low bar matters little.",
        f"Line charts of the energy removed in each layer for the fine-tunes {', '.join(finetunes)}.",
        panels,
        len(finetunes),
    )
