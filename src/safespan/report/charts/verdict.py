"""The verdicts as a picture: the statistic that decides, with its interval, of every hypothesis in every test."""

from math import ceil, floor

import altair as alt
import polars as pl

from safespan.report.charts.figure import ONE, Figure, alignment_first, chart_of, dots, series, unique

_MEANINGS = {
    "D": "harm, or the loss of refusals, before utility",
    "A": "the same before capability is lost",
    "T": "harm kept out, or refusals kept, in training",
}
"""Statistic -> what a value above 0 means."""
_ROOM = 0.2
"""Tenths between the outermost end of an interval and the edge."""
_OUTCOMES = ("answer probability", "refusal log-odds")
"""The outcomes that vote get their colours in this order, whichever of them a run has."""


def forest(estimates: pl.DataFrame, margin: float | None, by: str = "test") -> Figure | None:
    """The deciding statistics of the outcomes that vote.

    Args:
        estimates: the table; with a column `run` too if `by` is.
        margin: of the verdicts; None where there is no common one.
        by: the column that has a panel for each of its values: `test`, or `run` for one test of several runs.
    """
    deciding = estimates.filter("votes", "decides").drop_nulls("estimate")
    columns = dict.fromkeys([by, "test", "hypothesis", "construct", "outcome", "statistic", "estimate", "low", "high"])
    rows = deciding.select(*columns)
    if rows.is_empty():
        return None
    data = {"rows": rows}
    if margin is not None:
        data["margin"] = pl.DataFrame({"from": [-margin], "to": [margin]})
    scale = alt.Scale(domain=_domain(rows, margin or 0.0), nice=False)
    within = "" if margin is None else f" Inside the grey band, ±{margin:g}, a difference counts as none."
    groups, tests, statistics = unique(rows, by), unique(rows, "test"), unique(rows, "statistic")
    meanings = "; ".join(f"{name}: {_MEANINGS[name]}" for name in statistics)
    title = "The number that decides each verdict" if by == "test" else f"The {tests[0]} test in every run"
    return Figure(
        "verdicts" if by == "test" else f"verdicts_{tests[0]}",
        title,
        "The number that decides each test, by harm and by refusal. The intervals hold for all claims of a test "
        "together, at 90 % unless the study sets another level. At 0 a hypothesis does what its random controls do. "
        f"Right of 0, {meanings}.{within}",
        f"Points with intervals of {', '.join(statistics)} for {rows['hypothesis'].n_unique()} "
        f"hypotheses in the tests {', '.join(tests)}, one panel per {by}.",
        [_panel(rows.filter(pl.col(by) == group), by, group, scale, margin is not None) for group in groups],
        1 if by == "test" else len(groups),
        data,
    )


def _domain(rows: pl.DataFrame, margin: float) -> list[float]:
    """From the lowest to the highest end of an interval, in tenths, with 0 and the margin inside; of all panels."""
    ends = pl.concat([rows[name].fill_nan(None).drop_nulls() for name in ("estimate", "low", "high")])
    low, high = (float(end) for end in (ends.min(), ends.max()))  # type: ignore[arg-type]
    return [floor(10 * min(low, -margin) - _ROOM) / 10, ceil(10 * max(high, margin) + _ROOM) / 10]


def _panel(rows: pl.DataFrame, by: str, group: str, scale: alt.Scale, margin: bool) -> alt.LayerChart | alt.FacetChart:
    names = alignment_first(rows)
    outcomes = [name for name in _OUTCOMES if name in rows["outcome"]]
    color, shape = series(pl.DataFrame({"outcome": _OUTCOMES}), "outcome", {}, "Outcome")
    base = chart_of(**{by: group}).encode(
        y=alt.Y("hypothesis:N", title=None, sort=names, axis=alt.Axis(labelLimit=150, grid=True)),
        yOffset=alt.YOffset("outcome:N", sort=outcomes),
        color=color,
    )
    statistic = rows["statistic"][0]
    title = f"{statistic}: {_MEANINGS[statistic]}"
    x = alt.X("estimate:Q", title=title, scale=scale)
    intervals = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title, scale=scale), x2="high:Q")
    points = dots(base, rows, ["hypothesis", "outcome", "statistic", "estimate", "low", "high"], 50, x=x, shape=shape)
    zero = alt.Chart(ONE).mark_rule(strokeWidth=1).encode(x=alt.datum(0))
    band = [chart_of("margin").mark_rect(color="#8883").encode(x="from:Q", x2="to:Q")] if margin else []
    height = 14 * len(names) * max(1, len(outcomes)) ** 0.7
    heading = f"{group.capitalize()} test" if by == "test" else group
    return alt.layer(*band, zero, intervals, points, title=heading, width=620, height=int(height) + 20)
