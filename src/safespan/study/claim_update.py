"""The update test: a finished update, projected or edited along every claim and its random controls."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from safespan.linalg.kernels import squared_norm
from safespan.linalg.parallel import parallel_map
from safespan.projection import Family, UpdateWeights, update_points
from safespan.results.claim_tables import UpdatePoint, UpdateRow
from safespan.results.table_files import write_table
from safespan.settings.verdict import update_finetunes
from safespan.study.context import Study
from safespan.study.coverage import measurable
from safespan.study.measured import ask_models, means, ratio
from safespan.study.points import PointStore, answer_jobs
from safespan.subspaces import find_hypothesis

if TYPE_CHECKING:
    from safespan.evaluation import Measured

PLACE = "update"


def run_update_test(study: Study, key: str) -> None:
    """Table `update`."""
    from safespan.evaluation import Measures, PointWorker

    settings, evaluator, family = study.resolved.verdict, study.evaluator, study.family
    assert settings is not None
    measures, store = Measures(settings, evaluator), update_store(study, key)
    finetunes, points = update_finetunes(family.finetuned), points_of_update(study)
    ask_models(study, store, measures, ("aligned", *finetunes))

    def worker(scratch: Path, known: Mapping[str, str]) -> partial[PointWorker]:
        weights = partial(
            UpdateWeights,
            family,
            finetunes,
            settings.fractions,
            settings.side,
            study.config.seed,
            scratch,
            study.decompose,
        )
        return partial(PointWorker, measures.ask, weights, evaluator.config.engine, family.aligned, scratch, known)

    records = answer_jobs(store, measures, points, worker, study.execution, _shared_basis, "points")
    norms = _norms(family, finetunes)
    rows = []
    for point in points:
        record = records[point.name]
        kept = ratio(record.energy, norms[point.finetune])
        rows.append(UpdateRow(**vars(point), energy_kept=kept, **means(record.scored)))
    write_table(study.run.table("update"), UpdateRow, rows)


def update_store(study: Study, key: str) -> "PointStore[Measured]":
    """Where the test's records are."""
    from safespan.evaluation import Measured

    return PointStore(study.run, PLACE, key, Measured)


def points_of_update(study: Study) -> list[UpdatePoint]:
    """Every set of weights of the test, hypothesis by hypothesis, with its random controls."""
    verdict = study.resolved.verdict
    assert verdict is not None
    finetunes = list(dict.fromkeys(update_finetunes(study.config.models)))
    return [
        point
        for name in measurable(study, "update")
        for point in update_points(find_hypothesis(name), finetunes, verdict.fractions, verdict.controls)
    ]


def _norms(family: Family, finetunes: Sequence[str]) -> dict[str, float]:
    """‖Δ_T‖²_F over all tensors."""

    def norm(finetune: str) -> float:
        return sum(parallel_map(lambda name: squared_norm(family.task_update(name, finetune)), family.names()))

    return {finetune: norm(finetune) for finetune in dict.fromkeys(finetunes)}


def _shared_basis(point: UpdatePoint) -> tuple[str, str, str]:
    """Points of one fine-tune, hypothesis and method share a basis and its coefficients."""
    return point.finetune, point.hypothesis, point.method
