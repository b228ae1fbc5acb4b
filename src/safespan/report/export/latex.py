"""LaTeX of tables and figures, for the packages booktabs and graphicx."""

import re
from collections.abc import Iterable

from safespan.report.export.grids import Grid

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # at the start of a row it would be an argument of the line break before it
    "*": "{*}",
    "–": "--",
    "’": "'",
    "“": "``",
    "”": "''",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "δ": r"$\delta$",
    "Δ": r"$\Delta$",
}
_MINUS = re.compile(r"(?<![\w.\-–])-(?=[\d.])")


def escaped(text: str) -> str:
    """Text as LaTeX that prints it; a sign before a number is a minus."""
    line = _MINUS.sub("−", " ".join(text.split()))
    return "".join(_SPECIAL.get(character, character) for character in line)


def table(grid: Grid) -> str:
    """A table as wide as the page, with a line of the file for each line of its cells."""
    lines = []
    for cells in grid.rows:
        for place in range(max(map(len, cells))):
            lines.append(_row(cell[place] if place < len(cell) else "" for cell in cells))
    body = "\n".join(f"    {line}" for line in lines)
    return f"""% needs \\usepackage{{booktabs}}
\\begin{{table*}}[t]
  \\centering
  \\footnotesize
  \\caption{{{escaped(grid.caption)}}}
  \\label{{tab:{grid.name}}}
  \\begin{{tabular}}{{@{{}}{"l" * len(grid.header)}@{{}}}}
    \\toprule
    {_row(grid.header)}
    \\midrule
{body}
    \\bottomrule
  \\end{{tabular}}
\\end{{table*}}
"""


def _row(cells: Iterable[str]) -> str:
    return f"{' & '.join(map(escaped, cells))} \\\\"


def figure(name: str, caption: str, wide: bool) -> str:
    """A figure of `figures/`, in its own size, so that its letters keep theirs."""
    place = "figure*" if wide else "figure"
    return f"""\\begin{{{place}}}[t]
  \\centering
  \\includegraphics{{figures/{name}.pdf}}
  \\caption{{{escaped(caption)}}}
  \\label{{fig:{name}}}
\\end{{{place}}}
"""
