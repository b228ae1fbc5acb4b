"""Charts of how a sweep grows: seconds and peak memory against hidden size, layers and points of the grid."""

from pathlib import Path
from typing import Any

import altair as alt
from goals import TENSORS, middle, peak

# Okabe and Ito's colours, apart for every kind of colour vision.
COLOURS = {
    "safespan": "#0072B2",
    "reference procedure": "#D55E00",
    f"libraries + {TENSORS} × largest tensor": "#777777",
}
TITLES = {"hidden": "Hidden size", "layers": "Layers", "points": "Points of the grid"}


def draw(scaling: dict[str, list[dict[str, Any]]], folder: Path) -> None:
    """One SVG for each series."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, series in scaling.items():
        panels = (_panel(name, seconds(series), "Seconds", "log"), _panel(name, gigabytes(series), "Peak memory, GB"))
        chart = alt.hconcat(*panels, spacing=30, background="white").configure_view(stroke=None)
        chart.configure_axis(grid=True, gridOpacity=0.4).save(folder / f"{name}.svg")


def seconds(series: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of a sweep, and of as many points of the reference procedure."""
    return [
        {"size": row["size"], "value": value, "side": side}
        for row in series
        for side, value in (
            ("safespan", middle(row["runs"])),
            ("reference procedure", row["points"] * row["reference"]["seconds"]),
        )
    ]


def gigabytes(series: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At the peak of a sweep and of a point of the reference procedure, and the goal."""
    goal = f"libraries + {TENSORS} × largest tensor"
    return [
        {"size": row["size"], "value": value / 1e9, "side": side}
        for row in series
        for side, value in (
            ("safespan", peak(row["runs"])),
            ("reference procedure", row["reference"]["peak"]),
            (goal, middle(row["runs"], "libraries") + TENSORS * row["largest"]),
        )
    ]


def _panel(name: str, rows: list[dict[str, Any]], title: str, scale: str = "linear") -> alt.Chart:
    sizes = sorted({row["size"] for row in rows})
    x = alt.X("size:Q", title=TITLES[name], axis=alt.Axis(values=sizes, format="d"), scale=alt.Scale(zero=False))
    y = alt.Y("value:Q", title=title, scale=alt.Scale(type=scale))
    colour = alt.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
    return (
        alt.Chart(alt.InlineData(values=rows), width=270, height=200)
        .mark_line(point=alt.OverlayMarkDef(size=50, filled=True), strokeWidth=2)
        .encode(
            x=x,
            y=y,
            color=alt.Color("side:N", title=None, scale=colour, legend=alt.Legend(orient="bottom", labelLimit=260)),
        )
    )
