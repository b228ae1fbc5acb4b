"""The update test as a picture: each hypothesis beside its controls of equal energy."""

import altair as alt
import polars as pl

from safespan.report.charts.figure import (
    LOG_ODDS,
    UNIT,
    Figure,
    band,
    chart_of_choice,
    curve,
    hypothesis_choice,
    series,
    unique,
)

_MEASURES = {
    "harmful_probability": "Forbidden answers, probability",
    "compliance": "Compliance at the first token",
    "log_odds": "Refusal log-odds, nats",
    "useful_probability": "Right answers, probability",
    "attack_success_rate": "Attack success rate",
    "utility": "Utility",
    "general_ability": "General ability",
    "over_refusal_rate": "Over-refusal",
    "harmful_nll": "Forbidden answers, NLL in nats",
    "useful_nll": "Right answers, NLL in nats",
}
_NO_SHARE = ("log_odds", "harmful_nll", "useful_nll")
_METHODS = {"parallel": "#D55E00", "orthogonal": "#0072B2", "edit": "#009E73"}


def against_controls(update: pl.DataFrame) -> Figure | None:
    """Every measure against the energy kept: a hypothesis as a line, its random controls as a band."""
    measured = [name for name in _MEASURES if update[name].drop_nulls().len()]
    if not measured:
        return None
    keys = ["finetune", "hypothesis", "method", "fraction"]
    long = update.unpivot(measured, index=[*keys, "draw", "energy_kept"], variable_name="measure").drop_nulls("value")
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
    finetunes = unique(rows, "finetune")
    panels = [
        _panel(rows, finetune, measure, f" ({finetune})" if len(finetunes) > 1 else "")
        for measure in measured
        for finetune in finetunes
    ]
    return Figure(
        "against_controls",
        "Each hypothesis beside random controls of equal energy",
        "What a fine-tune's update still does when part of it is kept (parallel), removed (orthogonal) or edited, "
        "against the energy of what is left. Line: the hypothesis. Band: from the lowest to the highest of its random "
        "controls, which keep the same energy in every matrix (but for an addition), dashed their mean. A safety "
        f"subspace leaves its bands for harm and stays in them for utility. {LOG_ODDS}",
        f"Line charts of {'; '.join(_MEASURES[name] for name in measured)} against the energy kept, with bands "
        f"of random controls, for one of {rows['hypothesis'].n_unique()} hypotheses at a time.",
        panels,
        2 if len(panels) <= 4 else 3,
        {"rows": rows},
        choice=hypothesis_choice(rows),
    )


def _panel(rows: pl.DataFrame, finetune: str, measure: str, suffix: str) -> alt.LayerChart | alt.FacetChart:
    color, shape = series(rows, "method", _METHODS, "Method")
    base = chart_of_choice(finetune=finetune, measure=measure).encode(
        x=alt.X("energy_kept:Q", title="Energy kept"), color=color
    )
    scale = alt.Scale(zero=False) if measure in _NO_SHARE else UNIT
    y = alt.Y("value:Q", title=None, scale=scale)
    controls = band(base, y, "control_low", "control_high", 0.18)
    mean = base.mark_line(strokeDash=[4, 3], strokeWidth=1.3).encode(y=alt.Y("control_mean:Q", title=None))
    hover = ["hypothesis", "method", "fraction", "energy_kept", "value", "control_mean", "control_low", "control_high"]
    line = curve(base, rows, y, shape, hover)
    return alt.layer(controls, mean, *line, title=_MEASURES[measure] + suffix, width=300, height=170)
