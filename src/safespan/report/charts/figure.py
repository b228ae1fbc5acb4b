"""What every chart is made of: named data, panels side by side, colours that all eyes tell apart.

A figure of several panels is a `concat`; the page lays its panels out afresh for the width at hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import polars as pl

Panel = alt.LayerChart | alt.FacetChart | alt.Chart

# Okabe and Ito's colours: apart for every kind of colour vision, and 3 : 1 on a white as on a dark ground.
SUBSPACES = {"alignment": "#D55E00", "safety": "#009E73", "random-k": "#CC79A7", "random": "#0072B2"}
UPDATES = {
    "alignment": "#D55E00",
    "safety": "#009E73",
    "useful": "#4F7FD9",
    "harmful": "#C8475F",
    "contaminated": "#A67C00",
}
_OTHERS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#A67C00", "#7A5CC7", "#2A7F8E", "#C8475F")
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")

ROWS = "rows"
"""The name of a figure's own data."""
ONE = alt.InlineData(values=[{}])
"""One row with nothing in it: for a rule at a fixed place."""
UNIT = alt.Scale(domain=[0, 1])
LOG_ODDS = "Refusal log-odds: above 0, the start of a compliant answer is more likely than that of a refusal."


@dataclass(frozen=True)
class Figure:
    """Panels side by side with the words that belong to them.

    Attributes:
        description: what the chart is, for those who cannot see it.
        panels: refer to their data by name.
        columns: panels to a row where there is room.
        data: name -> table; `rows` is what is shown and saved as the data of the chart.
        choice: a parameter of the chart that readers set.
    """

    name: str
    title: str
    caption: str
    description: str
    panels: Sequence[Panel]
    columns: int
    data: Mapping[str, pl.DataFrame]
    choice: alt.Parameter | None = None

    @property
    def spec(self) -> dict[str, Any]:
        """The Vega-Lite specification, with its data."""
        spec: dict[str, Any] = self._panels().to_dict(validate=False)
        del spec["config"]  # Altair's default theme fixes sizes and colours that the page sets for itself
        return {**spec, "datasets": self._datasets() | spec.get("datasets", {})}

    @property
    def chart(self) -> alt.ConcatChart:
        """The figure as an Altair chart with its data, to show in a notebook, to change or to save."""
        return self._panels().properties(datasets=self._datasets())

    def _panels(self) -> alt.ConcatChart:
        chart = alt.concat(*self.panels, columns=self.columns, spacing=24)
        chart = chart.properties(title=self.title, description=self.description)
        return chart.add_params(self.choice) if self.choice else chart

    def _datasets(self) -> dict[str, list[dict[str, Any]]]:
        """The data: four digits, which is more than a chart can show, and no NaN."""
        return {
            name: table.with_columns(pl.selectors.float().fill_nan(None).round(4)).to_dicts()
            for name, table in self.data.items()
        }


def chart_of(data: str = ROWS, **where: str) -> alt.Chart:
    """A chart of the rows of a named table in which each column of `where` has the value given."""
    chart = alt.Chart(alt.NamedData(data))
    for column, value in where.items():
        chart = chart.transform_filter(alt.FieldEqualPredicate(field=column, equal=value))
    return chart


def dots(base: alt.Chart, rows: pl.DataFrame, hover: Sequence[str], size: int = 45, **encodings: Any) -> alt.Chart:
    """Points that tell the columns `hover` of their rows."""
    mark = base.mark_point(filled=True, size=size, opacity=1)
    return mark.encode(tooltip=tooltip(rows, hover), **encodings)


def curve(
    base: alt.Chart, rows: pl.DataFrame, y: alt.Y, shape: alt.Shape, hover: Sequence[str], size: int = 45
) -> list[alt.Chart]:
    """A line and its points."""
    return [base.mark_line(strokeWidth=2).encode(y=y), dots(base, rows, hover, size, y=y, shape=shape)]


def band(base: alt.Chart, y: alt.Y, low: str, high: str, opacity: float) -> alt.Chart:
    """The area between two columns, on the axis of `y`."""
    lower = y.copy()
    lower["shorthand"] = f"{low}:Q"
    return base.mark_area(opacity=opacity).encode(y=lower, y2=f"{high}:Q")


def series(rows: pl.DataFrame, field: str, colours: Mapping[str, str], title: str) -> tuple[alt.Color, alt.Shape]:
    """Colours and shapes of the names in a column, the same for every panel."""
    names = unique(rows, field)
    known = [name for name in colours if name in names]
    other = [name for name in names if name not in colours]
    domain = known + other
    spare = [colour for colour in _OTHERS if colour not in (colours[name] for name in known)]
    shown = [colours[name] for name in known] + [spare[i % len(spare)] for i in range(len(other))]
    shapes = alt.Scale(domain=domain, range=[_SHAPES[i % len(_SHAPES)] for i in range(len(domain))])
    colors = alt.Scale(domain=domain, range=shown)
    return alt.Color(f"{field}:N", scale=colors, title=title), alt.Shape(f"{field}:N", scale=shapes, title=title)


def tooltip(rows: pl.DataFrame, columns: Sequence[str]) -> list[str]:
    """Tooltip fields with their kinds."""
    return [f"{name}:{'N' if rows.schema[name] == pl.String else 'Q'}" for name in columns]


def unique(table: pl.DataFrame, column: str) -> list[str]:
    """The values of a column as text, in order of appearance."""
    return [str(value) for value in table[column].drop_nulls().unique(maintain_order=True)]


def alignment_first(rows: pl.DataFrame) -> list[str]:
    """The hypotheses of a table in the order in which they are shown."""
    return sorted(unique(rows, "hypothesis"), key=lambda name: name != "alignment")


def hypothesis_choice(rows: pl.DataFrame) -> alt.Parameter:
    """Which hypothesis a chart shows; panels are of `chart_of_choice`."""
    names = alignment_first(rows)
    return alt.param(name="hypothesis", value=names[0], bind=alt.binding_select(options=names, name="Hypothesis: "))


def chart_of_choice(data: str = ROWS, **where: str) -> alt.Chart:
    """A chart of those rows of a named table that belong to the chosen hypothesis, and as in `chart_of`."""
    return chart_of(data, **where).transform_filter("datum.hypothesis === hypothesis")
