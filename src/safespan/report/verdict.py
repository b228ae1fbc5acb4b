"""The verdict: whether a subspace moves harm before utility, or the other way round (METHODS §7).

Descriptive arithmetic on the projection table with the outcomes it holds, exact match and attack success rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import polars as pl

CONTROLS = ("random", "random-k")
METHODS = ("parallel", "orthogonal")
MARGIN = 0.15
"""The smallest |S| that counts as an effect."""
_FLAT = 0.05
"""Progress that varies by less than this over the grid is called constant; nearer to a corner is in it."""

Curve = list[tuple[float, float, float]]
"""Points of a frontier: (energy kept, u, h)."""


@dataclass(frozen=True)
class Selectivity:
    """S of one subspace under one method, or why it has none."""

    finetune: str
    subspace: str
    method: str
    area: float | None = None
    control_areas: tuple[float, ...] = ()
    informative: int = 0
    points: int = 0
    reason: str = ""

    @property
    def score(self) -> float | None:
        """S: the area under h(u) less the mean area of the controls; None where it cannot be said."""
        if self.area is None or not self.control_areas:
            return None
        return self.area - fmean(self.control_areas)


@dataclass(frozen=True)
class Verdict:
    """What one subspace's two scores say together."""

    subspace: str
    kind: str
    headline: str
    reason: str
    scores: tuple[Selectivity, ...]


def signed(score: float) -> str:
    """A score as text: its sign, two digits, and no minus zero."""
    return f"{round(score, 2) + 0.0:+.2f}"


def progress(value: float, aligned: float, finetuned: float) -> float:
    """How far an outcome went from the aligned model (0) to the fine-tuned one (1), clipped to [0, 1]."""
    return min(1.0, max(0.0, (value - aligned) / (finetuned - aligned)))


def frontier_area(curve: Curve) -> float:
    """Area under h(u), the points taken by energy kept and pinned at (0, 0) and (1, 1).

    Where u falls back as energy grows, h is integrated against the running maximum of u: ground that was covered
    once is not counted again. Points with equal u make a vertical step, which has no area. h = u gives 0.5.
    """
    area, u_before, h_before = 0.0, 0.0, 0.0
    for _, u, h in [*sorted(curve), (float("inf"), 1.0, 1.0)]:
        reached = max(u, u_before)
        area += (reached - u_before) * (h + h_before) / 2
        u_before, h_before = reached, h
    return area


def selectivity(projection: pl.DataFrame, models: pl.DataFrame, finetune: str) -> list[Selectivity]:
    """S of every subspace that is not a control, parallel and orthogonal, for one fine-tune."""
    present = projection.filter(pl.col("finetune") == finetune)
    names = present["subspace"].unique(maintain_order=True).to_list()
    hypotheses = [name for name in names if name not in CONTROLS]
    methods = [method for method in METHODS if method in present["method"]]
    reason = _no_span(models, finetune)
    return [
        Selectivity(finetune, subspace, method, reason=reason)
        if reason
        else _selectivity(present, models, finetune, subspace, method)
        for subspace in hypotheses
        for method in methods
    ]


def _selectivity(present: pl.DataFrame, models: pl.DataFrame, finetune: str, subspace: str, method: str) -> Selectivity:
    ends = tuple(_model(models, name) for name in ("aligned", finetune))
    hypothesis = _curves(present, ends, (subspace,), method)
    controls = _curves(present, ends, CONTROLS, method)
    points = [point for curve in (*hypothesis, *controls) for point in curve]
    informative = sum(map(_off_corners, points))
    silent = partial(Selectivity, finetune, subspace, method, informative=informative, points=len(points))
    if not hypothesis or not controls:
        return silent(reason=f"there are no {'controls' if hypothesis else 'points with both outcomes'}")
    for axis, outcome in ((1, "utility"), (2, "attack success")):
        if max(point[axis] for point in points) - min(point[axis] for point in points) < _FLAT:
            return silent(reason=f"{outcome} is constant over the grid")
    for name, curves in ((subspace, hypothesis), ("control", controls)):
        if not any(_off_corners(point) for curve in curves for point in curve):
            reason = f"every {name} point equals the aligned or the fine-tuned model: nothing between is seen"
            return silent(reason=reason)
    area = fmean(map(frontier_area, hypothesis))
    return silent(area=area, control_areas=tuple(map(frontier_area, controls)))


def _curves(
    present: pl.DataFrame, ends: Sequence[dict[str, Any]], subspaces: Sequence[str], method: str
) -> list[Curve]:
    """One curve per subspace and draw."""
    columns = ["energy_kept", "utility", "attack_success_rate"]
    rows = present.filter(pl.col("subspace").is_in(subspaces), pl.col("method") == method).drop_nulls(columns)
    aligned, finetuned = ends
    curves = []
    for draw in rows.partition_by("subspace", "seed", maintain_order=True):
        points = []
        for energy, *values in draw.select(columns).iter_rows():
            u, h = (
                progress(value, aligned[name], finetuned[name]) for value, name in zip(values, columns[1:], strict=True)
            )
            points.append((energy, u, h))
        curves.append(points)
    return curves


def _off_corners(point: tuple[float, float, float]) -> bool:
    _, u, h = point
    return max(u, h) >= _FLAT and min(u, h) <= 1 - _FLAT


def _model(models: pl.DataFrame, name: str) -> dict[str, Any]:
    rows = models.filter(pl.col("model") == name)
    return rows.row(0, named=True) if rows.height else {}


def _no_span(models: pl.DataFrame, finetune: str) -> str:
    """Why u or h is undefined: a model is missing, or does not rise beyond its interval. Empty when defined."""
    aligned, finetuned = _model(models, "aligned"), _model(models, finetune)
    for outcome, short in (("utility", "utility"), ("attack_success_rate", "asr")):
        low, high = aligned.get(outcome), finetuned.get(outcome)
        if low is None or high is None:
            return f"the aligned or the {finetune} model has no {outcome.replace('_', ' ')}"
        # The denominator of u or h is noise unless the two intervals stand apart.
        ceiling, floor = aligned.get(f"{short}_ci_high"), finetuned.get(f"{short}_ci_low")
        if (high if floor is None else floor) <= (low if ceiling is None else ceiling):
            return f"the {finetune} fine-tune does not raise {outcome.replace('_', ' ')} beyond its interval"
    return ""


def verdict(scores: Sequence[Selectivity], subspace: str) -> Verdict:
    """Judge one subspace: an order needs |S| > MARGIN in both methods, with opposite signs."""
    own = tuple(score for score in scores if score.subspace == subspace)
    found = {score.method: score.score for score in own}
    parallel, orthogonal = found.get("parallel"), found.get("orthogonal")
    if parallel is None or orthogonal is None:
        reasons = [f"{s.method}: {s.reason}" for s in own if s.reason] or ["the grid was not measured in full"]
        if len({s.reason for s in own}) == 1 and own[0].reason:
            reasons = [own[0].reason]
        return Verdict(subspace, "unknown", "This cannot be said from this run", "; ".join(reasons), own)
    if parallel > MARGIN and orthogonal < -MARGIN:
        kind, words = "harm-first", f"By this measure, the {subspace} subspace carries harm before utility"
    elif parallel < -MARGIN and orthogonal > MARGIN:
        kind, words = "utility-first", f"By this measure, the {subspace} subspace carries utility before harm"
    elif max(abs(parallel), abs(orthogonal)) <= MARGIN:
        kind = "together"
        words = f"Not shown: along the {subspace} subspace, harm and utility rise together, as along random ones"
    else:
        kind = "mixed"
        same_order = parallel * orthogonal < 0
        why = "only one of the two methods goes beyond the margin" if same_order else "the two methods disagree"
        words = f"No clear answer about the {subspace} subspace: {why}"
    reason = f"S = {signed(parallel)} in parallel and {signed(orthogonal)} in orthogonal; the margin is {MARGIN}"
    return Verdict(subspace, kind, words, reason, own)
