"""The goals, and whether the figures meet them: every row of the page's table is decided here, by comparison."""

from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.common.checkpoints import Shape

PROJECTION, OVERLAP, ACTIVATIONS = 250, 100, 2.5
TENSORS = 6
WRITTEN_COLD, WRITTEN_CACHED = 2, 1
SWITCHING = 0.1
LARGE_MINUTES, LARGE_BYTES = 15, 8e9
ABOUT = 0.2
"""A ratio is about a number if it is no more than this share of it away."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    goal: str
    reference: str
    safespan: str
    ratio: str
    met: bool


def middle(runs: list[dict[str, Any]], field: str = "seconds") -> float:
    """Median of a field over the runs of a side."""
    return float(median(run[field] for run in runs))


def peak(runs: list[dict[str, Any]], field: str = "peak") -> float:
    """The highest peak of a side, in bytes."""
    return float(max(run[field] for run in runs))


def reference_seconds(section: dict[str, Any]) -> float:
    """Seconds of the reference procedure, scaled from the points or energies that were timed to all of them."""
    timed = [runs for name, runs in section["runs"].items() if name not in ("cold", "cached")]
    return section.get("points", section.get("energies", 0)) * sum(map(middle, timed)) / len(timed)


def rows(speed: dict[str, Any], large: dict[str, Any]) -> list[Row]:
    """The table, of the sections that were measured."""
    table: list[Row] = []
    if "projection" in speed:
        table += _amortised(speed["projection"], "Projection, 90 points", PROJECTION)
    if "overlap" in speed:
        table += _amortised(speed["overlap"], "MSO of two updates at 11 energies", OVERLAP)
    if "activations" in speed:
        runs = speed["activations"]["runs"]
        table.append(_faster("Last-token activations", middle(runs["reference"]), middle(runs["ours"]), ACTIVATIONS))
    for name, label in (("projection", "sweep"), ("overlap", "MSO")):
        if name in speed:
            table += _memory(speed[name], label, Shape(**speed["shape"]).largest())
    if "written" in speed:
        runs = speed["written"]["runs"]
        for side, label, times in (("cold", "empty", WRITTEN_COLD), ("cached", "filled", WRITTEN_CACHED)):
            ours, theirs = middle(runs[side], "wall"), middle(runs["mergekit"], "wall")
            goal = f"≤ {times} × mergekit"
            what = f"One checkpoint written, cache {label}"
            row = Row(
                what,
                goal,
                f"{theirs:.1f} s (mergekit)",
                f"{ours:.1f} s",
                f"{ours / theirs:.2f}",
                ours <= times * theirs,
            )
            table.append(row)
    if "switching" in speed:
        share = speed["switching"]["share"]
        took, goal = f"{100 * share:.1f} %", f"≤ {100 * SWITCHING:.0f} % of a point"
        table.append(
            Row("Switching weights, demo's study", goal, "–", took, f"{share / SWITCHING:.2f}", share <= SWITCHING)
        )
    return table + _large(large)


def _amortised(section: dict[str, Any], what: str, goal: float) -> list[Row]:
    reference = reference_seconds(section)
    sides = (("cold", "nothing cached"), ("cached", "spectra cached"))
    return [_faster(f"{what}, {label}", reference, middle(section["runs"][side]), goal) for side, label in sides]


def _faster(what: str, reference: float, ours: float, goal: float) -> Row:
    ratio = reference / ours
    return Row(what, f"≥ {goal} × as fast", f"{reference:.1f} s", f"{ours:.2f} s", f"{ratio:.3g}", ratio >= goal)


def _memory(section: dict[str, Any], what: str, largest: int) -> list[Row]:
    runs = section["runs"]
    reference = max(peak(side) for name, side in runs.items() if name not in ("cold", "cached"))
    table = []
    for side, label in (("cold", "nothing cached"), ("cached", "spectra cached")):
        # Each run against its own libraries; the one that is furthest above its limit counts.
        worst = max(runs[side], key=lambda run: run["peak"] / (run["libraries"] + TENSORS * largest))
        limit = worst["libraries"] + TENSORS * largest
        goal = f"≤ {gigabytes(limit)}"
        ratio = worst["peak"] / limit
        row = Row(
            f"Peak memory, {what}, {label}",
            goal,
            gigabytes(reference),
            gigabytes(worst["peak"]),
            f"{ratio:.2f}",
            ratio <= 1,
        )
        table.append(row)
    return table


def _large(large: dict[str, Any]) -> list[Row]:
    if "once" not in large:
        return []
    once, twice, table = large["once"], large.get("twice"), []
    layers = once["layers"]
    share = once["wall"] / (60 * LARGE_MINUTES)
    took = f"{once['wall'] / 60:.1f} min"
    table.append(Row(f"Large sweep, {layers} layers", f"≤ {LARGE_MINUTES} min", "–", took, f"{share:.2f}", share <= 1))
    share, goal = once["peak"] / LARGE_BYTES, f"≤ {gigabytes(LARGE_BYTES)}"
    table.append(Row("Large sweep, peak memory", goal, "–", gigabytes(once["peak"]), f"{share:.2f}", share <= 1))
    if twice:
        for field, label, want in (("wall", "time", 2), ("peak", "peak memory", 1)):
            ratio, most = twice[field] / once[field], want * (1 + ABOUT)
            goal, cell = f"about {want} × (≤ {most:g})", f"{ratio:.2f}"
            table.append(Row(f"Twice the layers, {label}", goal, "–", f"{cell} ×", cell, ratio <= most))
    return table


def gigabytes(count: float) -> str:
    """Bytes as text."""
    return f"{count / 1e9:.2f} GB"
