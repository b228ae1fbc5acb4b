"""The ablation test: the aligned model without what a claim names, beside random directions (METHODS §7)."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from safespan.linalg.kernels import squared_norm
from safespan.linalg.parallel import parallel_map
from safespan.projection import AblationWeights, ablation_points
from safespan.results.claim_tables import AblationPoint, AblationRow
from safespan.results.table_files import write_table
from safespan.statistics.ablation import Curve, capability_lost, is_measured
from safespan.study.context import Study
from safespan.study.coverage import measurable
from safespan.study.measured import ask_models, means, ratio
from safespan.study.points import PointStore, Record, answer_jobs
from safespan.subspaces import find_hypothesis

if TYPE_CHECKING:
    from safespan.evaluation import Measured

PLACE = "ablation"

_MOST_HALVINGS = 6
"""Strengths down to 2⁻⁶ are tried where a claim or control destroys the model at every fraction."""

_RIGHT = ("useful_nll", "general_nll")
"""Measures whose mean is ℓ; the general task may be absent."""


def run_ablation_test(study: Study, key: str) -> None:
    """Table `ablation`."""
    from safespan.evaluation import Measures, PointWorker

    settings, evaluator, family = study.resolved.verdict, study.evaluator, study.family
    assert settings is not None
    measures, store = Measures(settings, evaluator), ablation_store(study, key)
    ends = ask_models(study, store, measures, [role for role in ("aligned", "base") if role in study.config.models])

    def worker(scratch: Path, known: Mapping[str, str]) -> partial[PointWorker]:
        weights = partial(
            AblationWeights, family, settings.fractions, settings.side, study.config.seed, scratch, study.decompose
        )
        return partial(PointWorker, measures.ask, weights, evaluator.config.engine, family.aligned, scratch, known)

    def ask(points: Sequence[AblationPoint]) -> "dict[str, Record[Measured]]":
        return answer_jobs(store, measures, points, worker, study.execution, lambda point: point.hypothesis, "points")

    points, records = asked_points(study, ends["aligned"].scored, ask)
    write_table(study.run.table("ablation"), AblationRow, _rows(study, points, records, ends["aligned"].scored))


def asked_points(
    study: Study, aligned: "Measured", ask: "Callable[[Sequence[AblationPoint]], Mapping[str, Record[Measured]]]"
) -> "tuple[list[AblationPoint], dict[str, Record[Measured]]]":
    """All points of the test with their records.

    A curve that is not measured (`is_measured`) gets points of half the strength until it is.

    Args:
        study: the study.
        aligned: what was measured of the aligned model.
        ask: gives the records of points, by name.
    """
    settings = study.resolved.verdict
    assert settings is not None
    more = [
        point
        for name in measurable(study, "ablation")
        for point in ablation_points(find_hypothesis(name), settings.fractions, settings.controls)
    ]
    points: list[AblationPoint] = []
    records: dict[str, Record[Measured]] = {}
    for _ in range(1 + _MOST_HALVINGS):
        points += more
        records |= ask(sorted(more, key=lambda point: (point.hypothesis, point.fraction)))
        more = _weaker(points, records, aligned)
    return points, records


def ablation_store(study: Study, key: str) -> "PointStore[Measured]":
    """Where the test's records are."""
    from safespan.evaluation import Measured

    return PointStore(study.run, PLACE, key, Measured)


def curves(points: Sequence[AblationPoint]) -> dict[tuple[str, int | None], list[AblationPoint]]:
    """(hypothesis, draw) -> its points."""
    by_curve = defaultdict(list)
    for point in points:
        by_curve[point.hypothesis, point.draw].append(point)
    return dict(by_curve)


def curve_of(measured: "Sequence[Measured]", harmful: str) -> Curve:
    """Per-prompt outcomes of several sets of weights; `harmful` names the measure of harm."""
    right = [name for name in _RIGHT if name in measured[0].per_prompt]
    parts = tuple(np.array([one.per_prompt[name] for one in measured]) for name in right)
    return Curve(np.array([one.per_prompt[harmful] for one in measured]), parts)


def _weaker(
    points: Sequence[AblationPoint], records: "Mapping[str, Record[Measured]]", aligned: "Measured"
) -> list[AblationPoint]:
    """The point to add to every curve that is not measured: the smallest fraction at half of the least strength."""
    added = []
    for own in curves(points).values():
        known = [records[point.name] for point in own]
        curve = curve_of([record.scored for record in known], "compliance")
        if not is_measured(curve, curve_of([aligned], "compliance"), [record.weights for record in known]):
            least = min(own, key=lambda point: (point.fraction, point.strength))
            added.append(replace(least, strength=least.strength / 2))
    return added


def _rows(
    study: Study, points: Sequence[AblationPoint], records: "Mapping[str, Record[Measured]]", aligned: "Measured"
) -> list[AblationRow]:
    """A row per point; before them, at strength 0, the aligned model for each hypothesis."""
    if not points:
        return []
    family = study.family
    norm = sum(parallel_map(lambda name: squared_norm(family.removable(name, "weights")), family.names()))
    start = curve_of([aligned], "compliance")
    least, names = min(point.fraction for point in points), dict.fromkeys(point.hypothesis for point in points)
    whole = {"energy_removed": 0.0, "capability_lost": 0.0, **means(aligned)}
    rows = [AblationRow(name, least, 0.0, None, **whole) for name in names]
    for point in points:
        record = records[point.name]
        [lost] = capability_lost(curve_of([record.scored], "compliance"), start).tolist()
        removed = ratio(record.energy, norm)
        figures = {"energy_removed": removed, "capability_lost": lost, **means(record.scored)}
        rows.append(AblationRow(**vars(point), **figures))
    return rows
