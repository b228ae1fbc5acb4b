"""Pieces of work on weights and activations, and of the statistics and figures made of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from safespan.projection import UpdateWeights, sweep, update_points
from safespan.results.claim_tables import UpdatePoint
from safespan.settings import StudyConfig
from safespan.settings.analysis import ProjectionGrid
from safespan.study.costs.samples import Group, Piece
from safespan.study.costs.stages import decomposed
from safespan.study.costs.work import Work
from safespan.study.evidence import update_evidence
from safespan.subspaces import find_hypothesis

_FRACTIONS = (0.25, 0.5, 1.0)
_CLAIMS = ("alignment", "random-k")
_DRAWS = 3
_PROMPTS, _RESAMPLES = 200, 20


def analysis_pieces(study: StudyConfig, groups: Sequence[Group], folder: Path) -> Iterator[Piece]:
    """Pieces on each size of models; statistics and figures do not depend on it."""
    for group in groups:
        yield from _decompositions(group)
        yield from _points(study, group, folder)
    yield from _activations(groups[0])
    yield _statistics(study, groups[0])
    yield _figure(groups[0], folder)


def _decompositions(group: Group) -> Iterator[Piece]:
    from safespan.overlap import update_overlap

    family = group.family
    assert family.base is not None
    updates = {"alignment": (family.base, family.aligned), "useful": (family.aligned, family.finetuned["contaminated"])}
    matrices = len(group.shape.matrices)
    work = decomposed(group.shape, 2) + Work(compared=matrices)
    yield Piece(work, group.shape, lambda: update_overlap(updates, "tensor", (0.1, 0.5, 0.9)))
    grid = ProjectionGrid(subspaces=("alignment", "random"), fractions=_FRACTIONS)
    swept = decomposed(group.shape, 2) + Work(swept=2 * len(grid.methods) * len(_FRACTIONS))
    yield Piece(swept, group.shape, lambda: sweep(family, grid, 0))


def _points(study: StudyConfig, group: Group, folder: Path) -> Iterator[Piece]:
    """The weights of claims and of their controls, switched to in one model."""
    from safespan.evaluation import Prompting, SwitchedModel

    family = group.family
    scratch = folder / f"points-{group.shape.width}"
    scratch.mkdir()
    every = [
        point
        for name in _CLAIMS
        for point in update_points(find_hypothesis(name), ["contaminated"], _FRACTIONS, _DRAWS)
    ]
    model = SwitchedModel(Prompting(study.evaluation, family.aligned), family.aligned, scratch)

    def switch(points: list[UpdatePoint]) -> None:
        weights = UpdateWeights(family, ["contaminated"], _FRACTIONS, "output", 0, scratch)
        for point in points:
            with model.with_weights(weights.changes(point)):
                pass
        weights.close()

    own, drawn = [point for point in every if point.draw is None], sorted(every, key=lambda point: point.fraction)
    bases = decomposed(group.shape, 2 * len(_CLAIMS))
    with model.with_weights([]):  # loads it
        pass
    yield Piece(Work(points=len(own)) + bases, group.shape, lambda: switch(own))
    controls = Work(points=len(own), controls=len(every) - len(own))
    by_curve = sorted(drawn, key=lambda point: (point.hypothesis, point.method))
    yield Piece(controls + bases, group.shape, lambda: switch(by_curve))
    model.close()


def _activations(group: Group) -> Iterator[Piece]:
    """Random activations of two classes, apart along one direction, at one layer."""
    from safespan.activations import Resampling, overlap_by_layer, separation_by_layer

    seeded = torch.Generator().manual_seed(0)
    useful, harmful = (torch.randn(_PROMPTS, group.shape.width, generator=seeded) for _ in range(2))
    harmful[:, 0] += 2
    classes = {1: useful}, {1: harmful}
    resampling = Resampling(_RESAMPLES, _RESAMPLES, 0)
    flops = 4 * group.shape.width**2 * _PROMPTS
    work = Work(decompositions=4, decomposition_flops=flops, resamples=4 * _RESAMPLES)
    yield Piece(work, group.shape, lambda: overlap_by_layer(*classes, resampling=resampling))
    yield Piece(Work(probes=1), group.shape, lambda: separation_by_layer(*classes))


def _statistics(study: StudyConfig, group: Group) -> Piece:
    """One claim under one outcome, with the controls of the first look and random likelihoods."""
    from safespan.evaluation import Measured

    verdict, random = study.verdict, np.random.default_rng(0)
    assert verdict is not None
    points = update_points(find_hypothesis("alignment"), ["contaminated"], verdict.fractions, 5)

    def measured(level: float) -> Measured:
        values = {kind: (level * random.uniform(0.5, 1, 70)).tolist() for kind in ("useful", "harmful")}
        return Measured({f"{kind}_probability": rows for kind, rows in values.items()})

    known = {point.name: measured(point.fraction) for point in points}
    known |= {"aligned": measured(0.0), "contaminated": measured(1.0)}
    return Piece(Work(judged=1), group.shape, lambda: update_evidence(verdict, points, known, "answer probability", 0))


def _figure(group: Group, folder: Path) -> Piece:
    """A figure of one panel as SVG and PDF."""
    import polars as pl

    from safespan.report.charts.figure import Figure, chart_of
    from safespan.report.static import write_figures

    rows = pl.DataFrame({"x": list(range(300)), "y": [number % 7 for number in range(300)]})
    panel = chart_of().mark_point().encode(x="x:Q", y="y:Q").properties(width=200, height=200)
    figure = Figure("figure", "", "", "", [panel] * 3, 3, {"rows": rows})
    return Piece(Work(figures=1), group.shape, lambda: write_figures(folder / "figures", [figure]))
