"""The training test as a picture: harm and utility along each training, with random controls as a band."""

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
)

_MEASURES = {
    "harmful_probability": "Forbidden answers, probability",
    "compliance": "Compliance at the first token",
    "log_odds": "Refusal log-odds, nats",
    "useful_probability": "Right answers, probability",
}
_RUNS = {"claim": "#D55E00", "random": "#0072B2", "unprotected": "#A67C00", "clean": "#009E73"}


def harm_along_training(training: pl.DataFrame) -> Figure | None:
    """Every measure along the steps: a hypothesis as a line, its random controls as a band, for one at a time."""
    claims = training.filter(run="claim").select("hypothesis", "group").unique(maintain_order=True)
    if claims.is_empty():
        return None
    long = training.unpivot(list(_MEASURES), index=["run", "hypothesis", "group", "step"], variable_name="measure")
    own = long.filter(run="claim").drop("group")
    random = long.filter(run="random").drop("hypothesis").join(claims, on="group", maintain_order="right")
    alone = long.filter(pl.col("run").is_in(["unprotected", "clean"])).drop("hypothesis", "group")
    parts = [own, random, alone.join(claims.select("hypothesis"), how="cross")]
    rows = (
        pl.concat(part.select("hypothesis", "run", "measure", "step", "value") for part in parts)
        .drop_nulls("value")
        .group_by("hypothesis", "run", "measure", "step", maintain_order=True)
        .agg(pl.mean("value"), low=pl.min("value"), high=pl.max("value"), trainings=pl.len())
        .sort("hypothesis", "run", "step", maintain_order=True)
    )
    return Figure(
        "harm_along_training",
        "Harm and utility along each training",
        "The aligned model is fine-tuned on data with harmful rows. Line with points: the hypothesis is "
        "protected. Band: from the lowest to the highest of the trainings with a random control of it, dashed "
        "their mean. Beside them the unprotected training, and clean: the training on the data without its harmful "
        "rows, which is what a perfect protection would give. A hypothesis that protects stays near clean for harm "
        f"and near unprotected for utility. {LOG_ODDS}",
        f"Line charts of {', '.join(map(str.lower, _MEASURES.values()))} along the optimizer steps, with bands of "
        f"random controls, for one of {claims.height} hypotheses at a time.",
        [_panel(rows, measure) for measure in _MEASURES],
        len(_MEASURES),
        {"rows": rows},
        choice=hypothesis_choice(rows),
    )


def _panel(rows: pl.DataFrame, measure: str) -> alt.LayerChart | alt.FacetChart:
    color, shape = series(rows, "run", _RUNS, "Training")
    x, y = (
        alt.X("step:Q", title="Optimizer step", scale=alt.Scale(zero=True, nice=False)),
        alt.Y("value:Q", title=None, scale=alt.Scale(zero=False) if measure == "log_odds" else UNIT),
    )
    bases = {run: chart_of_choice(measure=measure, run=run).encode(x=x, color=color) for run in _RUNS}
    references = [bases[run].mark_line(strokeWidth=1.5).encode(y=y) for run in ("unprotected", "clean")]
    spread = band(bases["random"], y, "low", "high", 0.18)
    mean = bases["random"].mark_line(strokeDash=[4, 3], strokeWidth=1.3).encode(y=y)
    claim = curve(bases["claim"], rows, y, shape, ["hypothesis", "step", "value"])
    return alt.layer(spread, mean, *references, *claim, title=_MEASURES[measure], width=220, height=190)
