"""What the tests of a claim share: the models and points that are asked, and means of what was measured."""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from safespan.execution.local import Worker
from safespan.results.claim_tables import AblationPoint, UpdatePoint
from safespan.settings.names import Test
from safespan.settings.verdict import Look, looks_of
from safespan.study.context import Study
from safespan.study.points import PointStore, Record, answer_jobs

if TYPE_CHECKING:
    from safespan.evaluation import Measured, Measures, ModelWorker

_COLUMNS = {
    "correct": "utility",
    "attack": "attack_success_rate",
    "general_correct": "general_ability",
    "over_refused": "over_refusal_rate",
}
"""Measure -> the column that has its mean, where the two names differ."""

MakeWorker = Callable[["Measures", Path, Mapping[str, str]], Callable[[], Worker]]
"""Gives, for what is asked, a scratch folder and the names of points by their weights, what makes a worker."""


def ask_models(
    study: Study, store: "PointStore[Measured]", measures: "Measures", roles: Iterable[str]
) -> "dict[str, Measured]":
    """Measure models of the study as they are, on all prompts, by role."""
    from safespan.evaluation import ModelJob, ModelWorker

    jobs = [ModelJob(role, study.checkpoint(role)) for role in dict.fromkeys(roles)]

    def worker(scratch: Path, known: Mapping[str, str]) -> "partial[ModelWorker]":
        return partial(ModelWorker, measures.ask, study.prompting, scratch)

    records = answer_jobs(store, measures, jobs, worker, study.execution, lambda job: job.name, "models")
    return {role: record.scored for role, record in records.items()}


def model_store(study: Study, test: Test, key: str) -> "PointStore[Measured]":
    """Where the records of the models of one test are."""
    from safespan.evaluation import Measured

    return PointStore(study.run, f"{test}/models", key, Measured)


@dataclass(frozen=True)
class Asked:
    """What was measured of one point, on the prompts that it was asked.

    Attributes:
        measured: the outcomes.
        weights: SHA-256 of its weights.
        energy: ‖·‖²_F of what it added to the aligned model.
    """

    measured: "Measured"
    weights: str
    energy: float


Point = TypeVar("Point", UpdatePoint, AblationPoint)


class PointsAsked(Generic[Point]):
    """Asks the points of one test in parts of the prompts, so that a claim that is decided is asked no more.

    Attributes:
        looks: at the test.
        known: what was measured of every point so far.

    Args:
        study: the study.
        test: `update` or `ablation`.
        key: of the records.
        looks: at the test.
        worker: makes workers; None: points are not asked, but read.
        group: points of one group share work.
    """

    def __init__(
        self,
        study: Study,
        test: Test,
        key: str,
        looks: Sequence[Look],
        worker: MakeWorker | None = None,
        group: Callable[[Any], Hashable] = hash,
    ) -> None:
        self._study, self._test, self._key = study, test, key
        self._worker, self._group = worker, group
        self.looks = looks
        self.known: dict[Point, Asked] = {}

    def upto(self, points: Sequence[Point], prompts: int) -> dict[Point, Asked] | None:
        """What was measured of points on so many prompts; None where they are only read, and one was not asked."""
        from safespan.evaluation import joined

        parts = []
        for part in self._parts(prompts):
            records = self._records(points, part)
            if records is None:
                return None
            parts.append(records)
        for point in points:
            own = [records[point.name] for records in parts]
            asked = Asked(joined([record.scored for record in own]), own[0].weights, own[0].energy)
            self.known[point] = asked
        return {point: self.known[point] for point in points}

    def _parts(self, prompts: int) -> list[tuple[int, int]]:
        """The parts of the prompts, up to so many: they end where a look does."""
        ends = [0, *dict.fromkeys(look.prompts for look in self.looks if look.prompts <= prompts)]
        return list(pairwise(ends))

    def _records(self, points: Sequence[Point], part: tuple[int, int]) -> "dict[str, Record[Measured]] | None":
        from safespan.evaluation import Measured, Measures

        settings = self._study.resolved.verdict
        assert settings is not None
        store = PointStore(self._study.run, f"{self._test}/{part[0]}-{part[1]}", self._key, Measured)
        if self._worker is None:
            records = {point.name: record for point in points if (record := store.read(point.name))}
            return records if len(records) == len(points) else None
        measures = Measures(settings, self._study.evaluator, part)
        worker = partial(self._worker, measures)
        return answer_jobs(store, measures, points, worker, self._study.execution, self._group, "points")


def looks_at(study: Study, models: "Mapping[str, Measured]") -> tuple[Look, ...]:
    """The looks at a test; the models were asked all prompts that there are."""
    settings = study.resolved.verdict
    assert settings is not None
    return looks_of(settings, max(len(values) for values in models["aligned"].per_prompt.values()))


def means(measured: "Measured") -> dict[str, Any]:
    """Columns of a table: the mean of every measure over its prompts, and how many were asked."""
    columns = {
        _COLUMNS.get(name, name): float(np.nanmean(values))
        for name, values in measured.per_prompt.items()
        if name != "not_refused"
    }
    if "not_refused" in measured.per_prompt:
        columns["refusal_rate"] = 1 - float(np.nanmean(measured.per_prompt["not_refused"]))
    return {**columns, "prompts": len(measured.per_prompt["harmful_nll"])}


def ratio(part: float, whole: float) -> float:
    """part / whole; NaN where the whole is zero."""
    return part / whole if whole else math.nan
