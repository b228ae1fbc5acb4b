"""Figures for one column of a paper, one for each claim: PDF, letters of eight points in their own size."""

import copy
import logging
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import vl_convert

from safespan.files.atomic import write_text
from safespan.report.charts import Figure
from safespan.report.static import CONFIG, paper_size, size_of

WIDTH = 237.0
"""Points: a column of 3.3 inches."""
PAGE = 504.0
"""Points: both columns of a page."""
_TALLEST = 630.0
"""Points: a page's text, less its caption."""
_PANEL, _LEAST = 60.0, 40.0
"""Points: a panel's width that is aimed at, and the least width or height that it is given."""
_AXIS, _AROUND = 42.0, 56.0
"""Points to the left of a panel, and above and below it, that axes and titles take."""
_LETTER = 4.3
"""Points: the mean width of a letter of eight."""
_TRIES = 6
_SMALLEST = 7
"""Points: the least size of a letter."""

_CONFIG = {
    **CONFIG,
    "axis": {**CONFIG["axis"], "labelLimit": 120, "tickCount": 4},
    "legend": {
        **CONFIG["legend"],
        "columns": 3,
        "titleLimit": 0,
        "labelLimit": 100,
        "layout": {"top": {"direction": "vertical", "anchor": "start"}},
    },
    "title": {**CONFIG["title"], "fontSize": 8},
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PaperFigure:
    """A figure for a paper.

    Attributes:
        name: of its file.
        caption: what it shows.
        svg: the drawing.
    """

    name: str
    caption: str
    svg: str

    @property
    def wide(self) -> bool:
        """Whether it needs both columns of a page."""
        return size_of(self.svg)[0] > WIDTH

    @property
    def pdf(self) -> bytes:
        """The same as PDF, a point for each of its units."""
        return vl_convert.svg_to_pdf(self.svg)


def paper_figures(figure: Figure) -> Iterator[PaperFigure]:
    """A figure of the report in one column; where readers choose a claim, one for each."""
    spec, caption = figure.spec, f"{figure.title}. {figure.caption}"
    size: _Size | None = None
    if figure.choice is None:
        yield PaperFigure(figure.name, caption, _drawn(figure.name, spec, size)[0])
        return
    [choice] = spec["params"]
    for claim in choice["bind"]["options"]:
        rows = {**spec["datasets"], "rows": [row for row in spec["datasets"]["rows"] if row["hypothesis"] == claim]}
        own = {**spec, "datasets": rows, "params": [{"name": choice["name"], "value": claim}]}
        name = f"{figure.name}-{re.sub(r'[^A-Za-z0-9_.-]+', '_', claim)}"
        svg, size = _drawn(name, own, size)
        yield PaperFigure(name, f"Claim {claim}. {caption}", svg)


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure without a choice as SVG, as wide as one column of a paper, with its caption as description."""
    [drawn] = paper_figures(figure)
    root, end, rest = drawn.svg.partition(">")
    write_text(path, f"{root}{end}<title>{escape(figure.title)}</title><desc>{escape(figure.caption)}</desc>{rest}")


@dataclass(frozen=True)
class _Size:
    """Of the panels: how many to a row, how wide in points, and what their height is multiplied by."""

    columns: int
    width: float
    shrink: float = 1.0


def _drawn(name: str, spec: dict[str, Any], start: _Size | None) -> tuple[str, _Size]:
    """Draw with ever smaller panels, until what stands around them fits too.

    Args:
        name: of the figure, in a warning.
        spec: of the figure.
        start: the first size to try: that of a figure with the same panels.

    Returns:
        The drawing, and the size of its panels.
    """
    size = start or _Size(columns := _columns(spec), _panel_width(columns))
    for _ in range(_TRIES):
        svg = vl_convert.vegalite_to_svg(_sized(spec, size), config=_CONFIG)
        across, down = size_of(svg)
        if across <= WIDTH and down <= _TALLEST:
            return svg, size
        narrower = size.width - max(0.0, across - WIDTH) / size.columns
        size = _Size(size.columns, narrower, size.shrink * min(1.0, _TALLEST / down))
    factor = min(WIDTH / across, _TALLEST / down)
    if factor >= _SMALLEST / _CONFIG["axis"]["labelFontSize"]:  # a legend can be wider than panels of any width
        return _scaled(svg, across * factor, down * factor), size
    _log.warning(f"figure {name} has too many panels for a column: it is as wide as a page")
    return _across_the_page(spec), size


def _across_the_page(spec: dict[str, Any]) -> str:
    """Draw as wide as both columns, with ever lower panels until they fit the page."""
    sized = paper_size(spec)
    for _ in range(_TRIES):
        svg = vl_convert.vegalite_to_svg(sized, config=CONFIG)
        across, down = size_of(svg)
        factor = min(1.0, PAGE / across)
        if down * factor <= _TALLEST:
            break
        for panel in sized["concat"]:
            panel["height"] *= 0.9 * _TALLEST / (down * factor)
    return _scaled(svg, across * factor, down * factor)


def _scaled(svg: str, across: float, down: float) -> str:
    """The drawing in another size; its `viewBox` keeps what it shows."""
    width, height = (f"{int(100 * points) / 100:g}" for points in (across, down))
    return re.sub(r'(<svg[^>]*) width="[\d.]+" height="[\d.]+"', rf'\1 width="{width}" height="{height}"', svg, count=1)


def _columns(spec: dict[str, Any]) -> int:
    """As few panels to a row as fit the page one below the other."""
    panels = spec["concat"]
    for columns in range(1, min(spec["columns"], len(panels)) + 1):
        width = _panel_width(columns + 1)
        rows = -(-len(panels) // columns)
        if width < _PANEL or rows * (_height(panels[0], _panel_width(columns)) + _AROUND) <= _TALLEST:
            return columns
    return columns


def _panel_width(columns: int) -> float:
    return (WIDTH - 14 * (columns - 1)) / columns - _AXIS


def _height(panel: dict[str, Any], width: float) -> float:
    return float(panel["height"] * min(1.0, width / panel["width"]) ** 0.5)


def _sized(spec: dict[str, Any], size: _Size) -> dict[str, Any]:
    """The specification with panels of one width. Its title is left out: a paper has it in the caption."""
    sized = {**spec, "title": "", "columns": size.columns, "spacing": 12, "concat": copy.deepcopy(spec["concat"])}
    width = max(_LEAST, size.width)
    for panel in sized["concat"]:
        height = max(_LEAST, size.shrink * _height(panel, width))
        panel |= {"width": width, "height": height, "title": _wrapped(panel.get("title"), width)}
        _wrap_axes(panel, {"x": width, "y": height})
    return sized


def _wrap_axes(part: dict[str, Any], lengths: dict[str, float]) -> None:
    """Break the axes' titles into lines as long as the axes."""
    for channel, length in lengths.items():
        axis = part.get("encoding", {}).get(channel, {})
        if isinstance(axis.get("title"), str):
            axis["title"] = _wrapped(axis["title"], length)
    for layer in part.get("layer", ()):
        _wrap_axes(layer, lengths)


def _wrapped(text: object, length: float) -> object:
    if not isinstance(text, str):
        return text
    lines = textwrap.wrap(text, max(8, int(length / _LETTER)))
    return lines if len(lines) > 1 else text
