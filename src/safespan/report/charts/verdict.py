"""The verdicts as a picture, and what they rest on: each hypothesis beside its controls of equal energy."""

import altair as alt
import polars as pl

from safespan.report.charts.figure import ONE, Figure, band, chart_of, curve, dots, series, unique

_MEASURES = {
    "useful_nll": "Right answers, NLL in nats",
    "harmful_nll": "Forbidden answers, NLL in nats",
    "utility": "Utility",
    "attack_success_rate": "Attack success rate",
    "general_ability": "General ability",
    "over_refusal_rate": "Over-refusal",
}
_METHODS = {"parallel": "#D55E00", "orthogonal": "#0072B2", "edit": "#009E73"}


def forest(estimates: pl.DataFrame, margin: float | None, by: str | None = None) -> Figure | None:
    """D with its interval for every hypothesis and outcome, one panel for each value of the column `by` if given."""
    columns = [*([by] if by else []), "hypothesis", "outcome", pl.col("estimate").alias("D"), "low", "high"]
    rows = estimates.filter(statistic="D").drop_nulls("estimate").select(columns)
    if rows.is_empty():
        return None
    groups = unique(rows, by) if by else [None]
    data = {"rows": rows}
    if margin is not None:
        data["margin"] = pl.DataFrame({"from": [-margin], "to": [margin]})
    within = "" if margin is None else f" Inside the grey band, ±{margin:g}, a difference counts as none."
    return Figure(
        "verdicts",
        "How far each hypothesis parts harm from utility",
        "D with its interval under each outcome: right of 0 harm goes first, left of 0 utility does; at 0 a hypothesis "
        f"does what random controls of the same energy do.{within}",
        f"Points with intervals of D for {rows['hypothesis'].n_unique()} hypotheses under "
        f"{rows['outcome'].n_unique()} outcomes.",
        [_forest_panel(rows, by, group, margin is not None) for group in groups],
        len(groups),
        data,
    )


def _alignment_first(rows: pl.DataFrame) -> list[str]:
    return sorted(unique(rows, "hypothesis"), key=lambda name: name != "alignment")


def _forest_panel(
    rows: pl.DataFrame, by: str | None, group: str | None, margin: bool
) -> alt.LayerChart | alt.FacetChart:
    names, outcomes = _alignment_first(rows), unique(rows, "outcome")
    color, shape = series(rows, "outcome", {}, "Outcome")
    base = chart_of(**({by: group} if by and group else {})).encode(
        y=alt.Y("hypothesis:N", title=None, sort=names, axis=alt.Axis(labelLimit=150, grid=True)),
        yOffset=alt.YOffset("outcome:N", sort=outcomes),
        color=color,
    )
    title, scale = "D, beyond random controls", alt.Scale(domain=[-1, 1], clamp=True)
    x = alt.X("D:Q", title=title, scale=scale)
    intervals = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title, scale=scale), x2="high:Q")
    points = dots(base, rows, ["hypothesis", "outcome", "D", "low", "high"], 50, x=x, shape=shape)
    zero = alt.Chart(ONE).mark_rule(strokeWidth=1).encode(x=alt.datum(0))
    band = [chart_of("margin").mark_rect(color="#8883").encode(x="from:Q", x2="to:Q")] if margin else []
    height = 14 * len(names) * max(1, len(outcomes)) ** 0.7
    return alt.layer(*band, zero, intervals, points, title=group or "", width=620, height=int(height) + 20)


def against_controls(trials: pl.DataFrame) -> Figure | None:
    """Every measure against the energy kept: a hypothesis as a line, its random controls as a band."""
    measured = [name for name in _MEASURES if trials[name].drop_nulls().len()]
    if not measured:
        return None
    keys = ["finetune", "hypothesis", "method", "fraction"]
    long = trials.unpivot(measured, index=[*keys, "draw", "energy_kept"], variable_name="measure").drop_nulls("value")
    controls = long.filter(pl.col("draw").is_not_null()).group_by(*keys, "measure", maintain_order=True)
    rows = (
        long.filter(pl.col("draw").is_null())
        .drop("draw")
        .join(
            controls.agg(control_mean=pl.mean("value"), control_low=pl.min("value"), control_high=pl.max("value")),
            on=[*keys, "measure"],
            how="left",
            maintain_order="left",
        )
        .sort("hypothesis", "method", "energy_kept")
    )
    if rows.is_empty():
        return None
    names = _alignment_first(rows)
    chosen = alt.param(name="hypothesis", value=names[0], bind=alt.binding_select(options=names, name="Hypothesis: "))
    finetunes = unique(rows, "finetune")
    panels = [_controls_panel(rows, finetune, measure) for measure in measured for finetune in finetunes]
    return Figure(
        "against_controls",
        "Each hypothesis beside random controls of equal energy",
        "What a fine-tune's update still does when part of it is kept (parallel), removed (orthogonal) or edited, "
        "against the energy of what is left. Line: the hypothesis. Band: from the lowest to the highest of its random "
        "controls, which keep the same energy in every matrix, dashed their mean. A safety subspace leaves its bands "
        "for harm and stays in them for utility.",
        f"Line charts of {'; '.join(_MEASURES[name] for name in measured)} against the energy kept, with bands "
        f"of random controls, for one of {len(names)} hypotheses at a time.",
        panels,
        2 if len(panels) <= 4 else 3,
        {"rows": rows},
        choice=chosen,
    )


def _controls_panel(rows: pl.DataFrame, finetune: str, measure: str) -> alt.LayerChart | alt.FacetChart:
    label = _MEASURES[measure]
    color, shape = series(rows, "method", _METHODS, "Method")
    base = (
        chart_of(finetune=finetune, measure=measure)
        .transform_filter("datum.hypothesis === hypothesis")
        .encode(x=alt.X("energy_kept:Q", title="Energy kept"), color=color)
    )
    scale = alt.Scale(domain=[0, 1]) if not measure.endswith("_nll") else alt.Scale(zero=False)
    y = alt.Y("value:Q", title=None, scale=scale)
    controls = band(base, y, "control_low", "control_high", 0.18)
    mean = base.mark_line(strokeDash=[4, 3], strokeWidth=1.3).encode(y=alt.Y("control_mean:Q", title=None))
    hover = ["hypothesis", "method", "fraction", "energy_kept", "value", "control_mean", "control_low", "control_high"]
    line = curve(base, rows, y, shape, hover)
    return alt.layer(controls, mean, *line, title=f"{label} ({finetune})", width=300, height=170)
