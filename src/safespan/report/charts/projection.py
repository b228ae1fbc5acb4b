"""Utility and harm along the projections of experiments 1 and 2."""

import altair as alt
import polars as pl

from safespan.report.charts.figure import SUBSPACES, UNIT, Figure, band, chart_of, curve, series, unique

_OUTCOMES = {
    "utility": ("Utility", "utility_ci_low", "utility_ci_high"),
    "attack_success_rate": ("Attack success rate", "asr_ci_low", "asr_ci_high"),
}
_AXES = {"fraction": "Fraction of directions", "energy_kept": "Energy kept"}


def projection_figures(
    projection: pl.DataFrame, models: pl.DataFrame, method: str, by: str = "finetune"
) -> list[Figure | None]:
    """Utility and attack success against the fraction, and against the energy kept.

    Args:
        projection: the table; with a column `run` too if `by` is.
        models: the table, for the un-projected models; the same.
        method: parallel or orthogonal.
        by: the column that has a column of panels for each of its values: `finetune`, or `run` for one fine-tune of
            several runs.
    """
    return [_curves(projection.filter(method=method).drop_nulls(axis), models, method, axis, by) for axis in _AXES]


def _curves(rows: pl.DataFrame, models: pl.DataFrame, method: str, axis: str, by: str) -> Figure | None:
    outcomes = [name for name in _OUTCOMES if rows[name].drop_nulls().len()]
    if rows.is_empty() or not outcomes:
        return None
    intervals = [name for outcome in outcomes for name in (outcome, *_OUTCOMES[outcome][1:])]
    named = list(dict.fromkeys([by, "finetune"]))
    shown = rows.select(*named, "subspace", "seed", "fraction", "energy_kept", *intervals)
    groups = unique(rows, by)
    panels = [_panel(shown, by, group, outcome, axis) for outcome in outcomes for group in groups]
    against = "the fraction of directions" if axis == "fraction" else "the share of the update's energy kept"
    kept = "only the part inside the subspace is kept" if method == "parallel" else "that part is removed"
    return Figure(
        f"{method}_{axis}",
        f"{method.capitalize()} projection against {_AXES[axis].lower()}",
        f"What is left of each fine-tune when {kept}, against {against}; bands are 95 % intervals, horizontal rules "
        "the un-projected models. A subspace is special only where its two curves part from the random ones in "
        "different ways.",
        f"Line charts of {' and '.join(name.replace('_', ' ') for name in outcomes)} against {against}, "
        f"{method} projection, for {', '.join(groups)}.",
        panels,
        len(groups),
        {"rows": shown, "whole": _whole(rows, models, by, outcomes)},
    )


def _whole(rows: pl.DataFrame, models: pl.DataFrame, by: str, outcomes: list[str]) -> pl.DataFrame:
    """The aligned model and the fine-tune as they are, for every panel."""
    places = rows.select(pl.col(by), pl.col("finetune").alias("model")).unique(maintain_order=True)
    aligned = places.with_columns(model=pl.lit("aligned"), which=pl.lit("aligned"))
    which = pl.concat([aligned, places.with_columns(which=pl.lit("fine-tuned"))])
    keys = ["run", "model"] if by == "run" else ["model"]
    return which.join(models.select(*keys, *outcomes), on=keys, maintain_order="left")


def _panel(rows: pl.DataFrame, by: str, group: str, outcome: str, axis: str) -> alt.LayerChart | alt.FacetChart:
    label, low, high = _OUTCOMES[outcome]
    color, shape = series(rows, "subspace", SUBSPACES, "Subspace")
    base = chart_of(**{by: group}).encode(
        x=alt.X(f"{axis}:Q", title=_AXES[axis], scale=UNIT), color=color, detail="seed:N"
    )
    y = alt.Y(f"{outcome}:Q", title=label, scale=UNIT)
    line = curve(base, rows, y, shape, ["subspace", "fraction", "energy_kept", outcome, low, high])
    dashes = alt.Scale(domain=["aligned", "fine-tuned"], range=[[2, 3], [8, 3]])
    rules = (
        chart_of("whole", **{by: group})
        .mark_rule(strokeWidth=1.5)
        .encode(
            y=y,
            strokeDash=alt.StrokeDash("which:N", title="Un-projected", scale=dashes),
            tooltip=["model:N", f"{outcome}:Q"],
        )
    )
    title = f"{group} fine-tune" if by == "finetune" else group
    return alt.layer(band(base, y, low, high, 0.13), rules, *line, title=title, width=240, height=180)
