"""The verdicts of a study, from the records of its tests."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial

from safespan.errors import DataError
from safespan.results.claim_tables import EstimateRow, TrainingPoint, TrainingRow, VerdictRow
from safespan.results.table_files import rows_of, write_table
from safespan.settings import VerdictConfig
from safespan.settings.names import Test
from safespan.settings.verdict import chosen_tests, update_finetunes
from safespan.statistics.verdicts import Verdict
from safespan.study.claim_ablation import ablation_store, asked_points
from safespan.study.claim_keys import points_key, trainings_key
from safespan.study.claim_training import CLAIM, RANDOM, model_store, training_store
from safespan.study.claim_update import points_of_update, update_store
from safespan.study.context import Study
from safespan.study.coverage import coverage_of, untested_reason
from safespan.study.evidence import Evidence, ablation_evidence, training_evidence, update_evidence
from safespan.study.points import PointStore, Record, Scored
from safespan.study.verdicts import ClaimInTest, verdict_tables
from safespan.subspaces import find_hypothesis

OfHypothesis = Callable[[str, str], Evidence]
"""(hypothesis, outcome) -> what there is."""


def judge_claims(study: Study) -> None:
    """Tables `verdicts` and `estimates`."""
    settings = study.resolved.verdict
    assert settings is not None
    evidence: Mapping[Test, Callable[[Study], OfHypothesis]] = {
        "update": _of_update,
        "ablation": _of_ablation,
        "training": _of_training,
    }
    claims = []
    for test in chosen_tests(settings, study.config.models):
        of_test = evidence[test](study)
        for name, row in coverage_of(study, test).items():
            verdict, reason = untested_reason(row)
            untested = Verdict(verdict, reason) if verdict else None
            kind = find_hypothesis(name).kind
            claims.append(ClaimInTest(name, kind, test, untested, partial(of_test, name), row.remark or ""))
    verdicts, estimates = verdict_tables(settings, claims)
    write_table(study.run.table("verdicts"), VerdictRow, verdicts)
    write_table(study.run.table("estimates"), EstimateRow, estimates)


def _of_update(study: Study) -> OfHypothesis:
    settings, store = _settings(study), update_store(study, points_key(study))
    points = points_of_update(study)
    roles = ("aligned", *update_finetunes(study.config.models))
    measured = {name: record.scored for name, record in _read(store, [*roles, *(p.name for p in points)]).items()}

    def evidence(hypothesis: str, outcome: str) -> Evidence:
        own = [point for point in points if point.hypothesis == hypothesis]
        return update_evidence(settings, own, measured, outcome, study.config.seed)

    return evidence


def _of_ablation(study: Study) -> OfHypothesis:
    settings, store = _settings(study), ablation_store(study, points_key(study))
    aligned = _read(store, ["aligned"])["aligned"].scored
    points, records = asked_points(study, aligned, lambda asked: _read(store, [point.name for point in asked]))
    measured = {"aligned": aligned, **{name: record.scored for name, record in records.items()}}
    weights = {name: record.weights for name, record in records.items()}

    def evidence(hypothesis: str, outcome: str) -> Evidence:
        own = [point for point in points if point.hypothesis == hypothesis]
        return ablation_evidence(settings, own, measured, weights, outcome, study.config.seed)

    return evidence


def _of_training(study: Study) -> OfHypothesis:
    settings, key = _settings(study), trainings_key(study)
    rows = rows_of(study.run.read_table("training"), TrainingRow)
    places = [TrainingPoint(**{name: getattr(row, name) for name in _PLACE}) for row in rows]
    ends = {point.training: point for point in places}  # the last row of a training is its end
    courses = _read(training_store(study, key), list(ends))
    measured = {ends[name].name: record.scored.measured[-1] for name, record in courses.items()}
    measured["aligned"] = _read(model_store(study, key), ["aligned"])["aligned"].scored

    def evidence(hypothesis: str, outcome: str) -> Evidence:
        [own] = [point for point in ends.values() if (point.run, point.hypothesis) == (CLAIM, hypothesis)]
        controls = [point for point in ends.values() if (point.run, point.group) == (RANDOM, own.group)]
        return training_evidence(settings, own, controls, measured, outcome, study.config.seed)

    return evidence


_PLACE = tuple(field.name for field in fields(TrainingPoint))


def _settings(study: Study) -> VerdictConfig:
    assert study.resolved.verdict is not None
    return study.resolved.verdict


def _read(store: PointStore[Scored], names: Iterable[str]) -> dict[str, Record[Scored]]:
    """The records of that name.

    Raises:
        DataError: one is missing.
    """
    records = {}
    for name in names:
        record = store.read(name)
        if record is None:
            raise DataError(f"{store.run.root}: the record of {name} is gone or changed: run the study again")
        records[name] = record
    return records
