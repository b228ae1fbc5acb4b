"""The verdicts of a study, from the records of its tests."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING

from safespan.errors import DataError
from safespan.results.claim_tables import EstimateRow, TrainingPoint, TrainingRow, VerdictRow
from safespan.results.table_files import rows_of, write_table
from safespan.settings.names import Test
from safespan.settings.verdict import Look, chosen_tests, update_finetunes
from safespan.statistics.verdicts import POSITIVE
from safespan.study.claim_ablation import ablation_models, judge_ablations
from safespan.study.claim_keys import KeyOf
from safespan.study.claim_training import CLAIM, CLEAN, RANDOM, training_store
from safespan.study.claim_update import judge_updates
from safespan.study.context import Study
from safespan.study.coverage import claims_in
from safespan.study.evidence import Evidence, training_evidence
from safespan.study.measured import PointsAsked, looks_at, model_store
from safespan.study.points import PointStore, Scored
from safespan.study.verdicts import ClaimInTest, Judgement, judged_by_looks

if TYPE_CHECKING:
    from safespan.evaluation import Measured


def judge_claims(study: Study, key_of_test: KeyOf) -> None:
    """Tables `verdicts` and `estimates`; nothing is asked, and no model is read."""
    settings = study.resolved.verdict
    assert settings is not None
    by_test = {"update": _of_update, "ablation": _of_ablation, "training": _of_training}
    judgements = [
        by_test[test](study, key_of_test(study, test)) for test in chosen_tests(settings, study.config.models)
    ]
    write_table(study.run.table("verdicts"), VerdictRow, [row for one in judgements for row in one.verdicts()])
    write_table(study.run.table("estimates"), EstimateRow, [row for one in judgements for row in one.estimates()])


def _of_update(study: Study, key: str) -> Judgement:
    models = _models(study, "update", key, ("aligned", *update_finetunes(study.config.models)))
    return judge_updates(study, models, PointsAsked(study, "update", key, looks_at(study, models)))


def _of_ablation(study: Study, key: str) -> Judgement:
    models = _models(study, "ablation", key, ablation_models(study))
    return judge_ablations(study, models, PointsAsked(study, "ablation", key, looks_at(study, models)))


def _of_training(study: Study, key: str) -> Judgement:
    settings = study.resolved.verdict
    assert settings is not None
    rows = rows_of(study.run.read_table("training"), TrainingRow)
    places = {
        point.training: point for point in (TrainingPoint(**{n: getattr(row, n) for n in _PLACE}) for row in rows)
    }
    aligned = _models(study, "training", key, ("aligned",))["aligned"]
    records = _read(training_store(study, key), places)
    courses = {name: [aligned, *course.measured] for name, course in records.items()}
    random: dict[int | None, list[list[Measured]]] = defaultdict(list)
    for name, place in places.items():
        if place.run == RANDOM:
            random[place.group].append(courses[name])
    first = next(iter(random), None)

    def evidence(hypothesis: str, outcome: str) -> Evidence:
        """The clean training stands beside the random controls of the first claim."""
        chosen = (CLEAN, None) if hypothesis == CLEAN else (CLAIM, hypothesis)
        [own] = [place for place in places.values() if (place.run, place.hypothesis) == chosen]
        controls = random[first if own.group is None else own.group]
        return training_evidence(settings, courses[own.training], controls, outcome, study.config.seed)

    claims = [*claims_in(study, "training"), ClaimInTest(CLEAN, "training", POSITIVE)]
    once = [Look(settings.training.controls, settings.prompts)]
    return judged_by_looks(settings, "training", claims, once, lambda names, look: evidence)


_PLACE = tuple(field.name for field in fields(TrainingPoint))


def _models(study: Study, test: Test, key: str, roles: Iterable[str]) -> "dict[str, Measured]":
    return _read(model_store(study, test, key), dict.fromkeys(roles))


def _read(store: PointStore[Scored], names: Iterable[str]) -> dict[str, Scored]:
    """What is scored under these names.

    Raises:
        DataError: a record is missing.
    """
    records = {name: store.read(name) for name in names}
    if missing := [name for name, record in records.items() if record is None]:
        raise DataError(
            f"in {store.run.root} the record of {missing[0]} is missing, or not of this study as it stands there (an "
            "input changed, or another version made it): run the study again"
        )
    return {name: record.scored for name, record in records.items() if record}
