"""Every figure as a file for a paper: SVG and PDF, as wide as a page's text, letters of eight points."""

import copy
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import vl_convert

from safespan.files.atomic import atomic_path
from safespan.report.charts.figure import Figure

_WIDTH = 504
"""Points: seven inches, the text of a page in two columns."""
_AXIS = 42
"""Points to the left of a panel that its axis takes."""
_NARROWEST = 110
_TRIES = 4
CONFIG: dict[str, Any] = {
    "background": "white",
    "font": "Liberation Sans, Arial, Helvetica, sans-serif",
    "axis": {"labelFontSize": 8, "titleFontSize": 8, "titleFontWeight": "normal", "tickCount": 5},
    "header": {"labelFontSize": 8, "titleFontSize": 8},
    "legend": {"orient": "top", "labelFontSize": 8, "titleFontSize": 8, "symbolOpacity": 1, "columns": 6},
    "title": {"fontSize": 9, "anchor": "start"},
    "rule": {"color": "#444"},
    "view": {"stroke": None},
}


def write_figures(folder: Path, figures: Iterable[Figure]) -> None:
    """Write NAME.svg and NAME.pdf of every figure into a folder that is replaced as a whole."""
    with atomic_path(folder) as part:
        part.mkdir()
        for figure in figures:
            svg = _drawn(figure.spec)
            (part / f"{figure.name}.svg").write_text(svg, encoding="utf-8")
            (part / f"{figure.name}.pdf").write_bytes(vl_convert.svg_to_pdf(svg))


def _drawn(spec: dict[str, Any]) -> str:
    """The drawing: panels are narrowed until the names that stand beside them fit the width too."""
    sized = paper_size(spec)
    svg = vl_convert.vegalite_to_svg(sized, config=CONFIG)
    for _ in range(_TRIES):
        width = size_of(svg)[0]
        if width <= _WIDTH:
            break
        for panel in sized["concat"]:
            panel["width"] -= (width - _WIDTH) / min(sized["columns"], len(sized["concat"]))
        narrower = vl_convert.vegalite_to_svg(sized, config=CONFIG)
        if size_of(narrower)[0] >= width:  # a legend is what is so wide
            break
        svg = narrower
    return svg


def size_of(svg: str) -> tuple[float, float]:
    """Width and height of a drawing."""
    found = re.search(r'<svg[^>]* width="([\d.]+)" height="([\d.]+)"', svg)
    assert found
    return float(found[1]), float(found[2])


def paper_size(spec: dict[str, Any]) -> dict[str, Any]:
    """The specification with as many panels to a row as stay legible, together as wide as a page's text.

    The title is left out: a paper has it in the caption.
    """
    spec = {**copy.deepcopy(spec), "title": ""}
    columns = spec["columns"]
    while columns > 1 and _panel_width(columns) < _NARROWEST:
        columns = -(-columns // 2)
    spec |= {"columns": columns, "spacing": 14}
    for panel in spec["concat"]:
        width = _panel_width(min(columns, len(spec["concat"])))
        panel["height"] = panel["height"] * min(1.0, width / panel["width"]) ** 0.5
        panel["width"] = width
    return spec


def _panel_width(columns: int) -> float:
    return (_WIDTH - 14 * (columns - 1)) / columns - _AXIS
