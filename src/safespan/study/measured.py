"""What the tests of a claim share: the models beside their points, and means of what was measured."""

import math
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from safespan.study.context import Study
from safespan.study.points import PointStore, Record, answer_jobs

if TYPE_CHECKING:
    from safespan.evaluation import Measured, Measures, ModelWorker

_COLUMNS = {"correct": "utility", "attack": "attack_success_rate"}
"""Measure -> the column that has its mean, where the two names differ."""


def ask_models(
    study: Study, store: "PointStore[Measured]", measures: "Measures", roles: Iterable[str]
) -> "dict[str, Record[Measured]]":
    """Measure models of the study as they are, by role."""
    from safespan.evaluation import ModelJob, ModelWorker

    jobs = [ModelJob(role, study.checkpoint(role)) for role in dict.fromkeys(roles)]

    def worker(scratch: Path, known: Mapping[str, str]) -> "partial[ModelWorker]":
        return partial(ModelWorker, measures.ask, study.evaluator.config.engine, scratch)

    return answer_jobs(store, measures, jobs, worker, study.execution, lambda job: job.name, "models")


def means(measured: "Measured") -> dict[str, Any]:
    """Columns of a table: the mean of every measure over its prompts, and the rates."""
    over_prompts = {
        _COLUMNS.get(name, name): float(np.nanmean(values))
        for name, values in measured.per_prompt.items()
        if name != "not_refused"  # the rate of refusals is among the rates
    }
    return {**over_prompts, **measured.rates}


def ratio(part: float, whole: float) -> float:
    """part / whole; NaN where the whole is zero."""
    return part / whole if whole else math.nan
