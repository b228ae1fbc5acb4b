"""The trials of a study: every hypothesis and its random controls, measured."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from safespan.linalg.kernels import squared_norm
from safespan.linalg.parallel import parallel_map
from safespan.projection import Family, TrialWeights
from safespan.results.table_files import write_table
from safespan.results.tables import EstimateRow, TrialPoint, TrialRow, VerdictRow
from safespan.settings.verdict import trial_finetunes
from safespan.study.context import Study
from safespan.study.needs import tested_hypotheses, tested_points
from safespan.study.points import PointStore, Record, answer_jobs
from safespan.subspaces import find_hypothesis

if TYPE_CHECKING:
    from safespan.evaluation import Measured

_COLUMNS = {"correct": "utility", "attack": "attack_success_rate"}
"""Measure -> the column that has its mean, where the two names differ."""


def run_trials(study: Study, key: str) -> None:
    """Tables `trials`, `verdicts` and `estimates`."""
    from safespan.evaluation import Measured, Measures, ModelJob, ModelWorker, PointWorker
    from safespan.study.verdicts import verdict_tables

    settings, evaluator, family = study.resolved.verdict, study.evaluator, study.family
    assert settings is not None
    measures = Measures(settings, evaluator)
    hypotheses = [find_hypothesis(name) for name in tested_hypotheses(study.resolved)]
    finetunes, points = trial_finetunes(family.finetuned), tested_points(study.resolved)
    models = {"aligned": family.aligned, **{role: family.finetuned[role] for role in finetunes}}

    def model_worker(scratch: Path, known: Mapping[str, str]) -> partial[ModelWorker]:
        return partial(ModelWorker, measures.ask, evaluator.config.engine, scratch)

    def point_worker(scratch: Path, known: Mapping[str, str]) -> partial[PointWorker]:
        weights = partial(
            TrialWeights,
            family,
            finetunes,
            settings.fractions,
            settings.side,
            study.config.seed,
            scratch,
            study.decompose,
        )
        return partial(PointWorker, measures.ask, weights, evaluator.config.engine, family.aligned, scratch, known)

    store = PointStore(study.run, "trials", key, Measured)
    jobs = [ModelJob(role, checkpoint) for role, checkpoint in models.items()]
    ends = answer_jobs(store, measures, jobs, model_worker, study.execution, lambda job: job.name, "models")
    records = answer_jobs(store, measures, points, point_worker, study.execution, _shared_basis, "points")
    write_table(study.run.table("trials"), TrialRow, trial_rows(points, records, _norms(family, finetunes)))
    measured = {name: record.scored for name, record in {**ends, **records}.items()}
    verdicts, estimates = verdict_tables(settings, hypotheses, points, measured, study.config.seed)
    write_table(study.run.table("verdicts"), VerdictRow, verdicts)
    write_table(study.run.table("estimates"), EstimateRow, estimates)


def trial_rows(
    points: Sequence[TrialPoint], records: "Mapping[str, Record[Measured]]", norms: Mapping[str, float]
) -> list[TrialRow]:
    """Rows of the table `trials`.

    Args:
        points: in the order of the rows.
        records: name of a point -> what was measured.
        norms: fine-tune -> ‖Δ_T‖²_F.
    """
    rows = []
    for point in points:
        record, norm = records[point.name], norms[point.finetune]
        means = {_COLUMNS.get(name, name): float(np.nanmean(v)) for name, v in record.scored.per_prompt.items()}
        energy_kept = record.energy / norm if norm else math.nan
        outcomes: dict[str, Any] = {**means, **record.scored.rates}
        rows.append(TrialRow(**vars(point), energy_kept=energy_kept, **outcomes))
    return rows


def _norms(family: Family, finetunes: Sequence[str]) -> dict[str, float]:
    """‖Δ_T‖²_F over all tensors."""

    def norm(finetune: str) -> float:
        return sum(parallel_map(lambda name: squared_norm(family.task_update(name, finetune)), family.names()))

    return {finetune: norm(finetune) for finetune in dict.fromkeys(finetunes)}


def _shared_basis(point: TrialPoint) -> tuple[str, str, str]:
    """Points of one fine-tune, hypothesis and method share a basis and its coefficients."""
    return point.finetune, point.hypothesis, point.method
