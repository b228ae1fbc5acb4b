"""The ablation test as a picture: harm against capability lost, a hypothesis beside its random controls."""

import altair as alt
import polars as pl

from safespan.report.charts.figure import LOG_ODDS, UNIT, Figure, chart_of_choice, dots, hypothesis_choice, series
from safespan.report.impact import CAPABILITY_LOST
from safespan.statistics.frontier import MOST_LOST

_MEASURES = {
    "harmful_probability": "Forbidden answers, probability",
    "compliance": "Compliance at the first token",
    "log_odds": "Refusal log-odds, nats",
}
_SERIES = {"claim": "#D55E00", "random directions": "#0072B2"}
_PLACE = ["hypothesis", "draw", "fraction", "strength", "energy_removed", "capability_lost"]


def harm_against_capability(ablation: pl.DataFrame) -> Figure | None:
    """Both measures of harm against the capability lost, for one hypothesis at a time."""
    if ablation.is_empty():
        return None
    name = pl.when(pl.col("draw").is_null()).then(pl.lit("claim")).otherwise(pl.lit("random directions"))
    rows = (
        _from_aligned(ablation)
        .with_columns(series=name)
        .unpivot(list(_MEASURES), index=["series", *_PLACE], variable_name="measure")
        .drop_nulls("value")
        .sort("hypothesis", "draw", "capability_lost", maintain_order=True)
        .with_columns(highest=pl.col("value").cum_max().over("hypothesis", "draw", "measure"))
    )
    return Figure(
        "harm_against_capability",
        "Harm against capability lost, as the aligned model loses a hypothesis’s directions",
        "Each point is the aligned model without a part of it, each line the highest value so far. Thick: what the "
        "hypothesis names is taken out. Thin: random directions that take out the same energy of every matrix. A "
        "hypothesis that safety rests on rises early, where its controls stay low. Shaded: more than "
        f"{MOST_LOST:.0%} of the capability is lost; such a model is destroyed, and its harm does not count. "
        f"{CAPABILITY_LOST}; below 0 it has risen. {LOG_ODDS}",
        f"Line charts of {' and of '.join(map(str.lower, _MEASURES.values()))} against the capability lost, with "
        f"lines of random controls, for one of {rows['hypothesis'].n_unique()} hypotheses at a time.",
        [_panel(rows, measure) for measure in _MEASURES],
        len(_MEASURES),
        {"rows": rows, "destroyed": _destroyed(rows)},
        choice=hypothesis_choice(rows),
    )


def _from_aligned(ablation: pl.DataFrame) -> pl.DataFrame:
    """The rows with the aligned model, the row of strength 0, at the start of every control's line too."""
    draws = ablation.select("hypothesis", "draw").unique(maintain_order=True).drop_nulls("draw")
    start = ablation.filter(strength=0).drop("draw").join(draws, on="hypothesis", maintain_order="right")
    return pl.concat([start.select(ablation.columns), ablation])


def _destroyed(rows: pl.DataFrame) -> pl.DataFrame:
    """What is shaded of each hypothesis, whose axis reaches as far as its points."""
    most = rows.group_by("hypothesis", maintain_order=True).agg(to=pl.max("capability_lost"))
    return most.filter(pl.col("to") > MOST_LOST).select("hypothesis", pl.lit(MOST_LOST).alias("from"), "to")


def _panel(rows: pl.DataFrame, measure: str) -> alt.LayerChart | alt.FacetChart:
    color, shape = series(rows, "series", _SERIES, "What is taken out")
    x, start = (
        alt.X(f"{name}:Q", title="Capability lost", scale=alt.Scale(zero=True)) for name in ("capability_lost", "from")
    )
    scale = alt.Scale(zero=False) if measure == "log_odds" else UNIT
    y, highest = (alt.Y(f"{name}:Q", title=None, scale=scale) for name in ("value", "highest"))
    destroyed = chart_of_choice("destroyed").mark_rect(color="#8883").encode(x=start, x2="to:Q")
    layers = []
    for name, width, size, opacity in (("random directions", 1, 12, 0.7), ("claim", 2, 45, 1)):
        base = chart_of_choice(measure=measure, series=name).encode(x=x, color=color, detail="draw:N")
        layers.append(base.mark_line(strokeWidth=width, opacity=opacity).encode(y=highest))
        layers.append(dots(base, rows, ["series", *_PLACE, "value"], size, y=y, shape=shape))
    return alt.layer(destroyed, *layers, title=_MEASURES[measure], width=280, height=220)
