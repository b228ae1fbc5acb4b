"""The update test: a finished update, projected or edited along every claim and its random controls."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from safespan.linalg.kernels import squared_norm
from safespan.linalg.parallel import parallel_map
from safespan.projection import Family, UpdateWeights, update_points
from safespan.results.claim_tables import UpdatePoint, UpdateRow
from safespan.results.table_files import write_table
from safespan.settings.names import Test
from safespan.settings.verdict import Look, update_finetunes
from safespan.study.context import Study
from safespan.study.coverage import claims_in
from safespan.study.evidence import Evidence, update_evidence
from safespan.study.measured import PointsAsked, ask_models, looks_at, means, model_store, ratio
from safespan.study.needs import tested_hypotheses
from safespan.study.verdicts import EvidenceOf, Judgement, judged_by_looks
from safespan.subspaces import find_hypothesis

if TYPE_CHECKING:
    from safespan.evaluation import Measured, Measures

_log = logging.getLogger(__name__)

TEST: Test = "update"


def run_update_test(study: Study, key: str) -> None:
    """Table `update`."""
    from safespan.evaluation import Measures, PointWorker

    settings, evaluator, family = study.resolved.verdict, study.evaluator, study.family
    assert settings is not None
    finetunes = update_finetunes(family.finetuned)
    if "harmful" in finetunes:
        for name in tested_hypotheses(study.resolved, TEST):
            claim = find_hypothesis(name)
            if claim.kind == "addition" and "harmful" in claim.needs:
                _log.warning(
                    f"{name} is made of the harmful fine-tune that it is tested on: at fraction 1 it undoes it by "
                    "construction, so that *harm first* says nothing of the claim; give a contaminated fine-tune"
                )
    models = ask_models(study, model_store(study, TEST, key), Measures(settings, evaluator), ("aligned", *finetunes))

    def worker(measures: "Measures", scratch: Path, known: Mapping[str, str]) -> partial[PointWorker]:
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
        return partial(PointWorker, measures.ask, weights, study.prompting, family.aligned, scratch, known)

    asked: PointsAsked[UpdatePoint] = PointsAsked(study, TEST, key, looks_at(study, models), worker, _shared_basis)
    judge_updates(study, models, asked)
    norms, rows = _norms(family, finetunes), []
    for point, known in asked.known.items():
        kept = ratio(known.energy, norms[point.finetune])
        rows.append(UpdateRow(**vars(point), energy_kept=kept, **means(known.measured)))
    write_table(study.run.table(TEST), UpdateRow, rows)


def judge_updates(study: Study, models: "Mapping[str, Measured]", asked: PointsAsked[UpdatePoint]) -> Judgement:
    """The judgement of all claims, look by look; what a look needs is asked, or only read.

    Args:
        study: the study.
        models: what was measured of the aligned model and of the fine-tunes.
        asked: the points.
    """
    settings = study.resolved.verdict
    assert settings is not None
    finetunes = list(dict.fromkeys(update_finetunes(study.config.models)))

    def evidence_at(names: Sequence[str], look: Look) -> EvidenceOf | None:
        points = {
            name: update_points(find_hypothesis(name), finetunes, settings.fractions, look.controls) for name in names
        }
        known = asked.upto([point for of_name in points.values() for point in of_name], look.prompts)
        if known is None:
            return None
        measured = {role: of_role.first(look.prompts) for role, of_role in models.items()}
        measured |= {point.name: one.measured for point, one in known.items()}

        def evidence(hypothesis: str, outcome: str) -> Evidence:
            return update_evidence(settings, points[hypothesis], measured, outcome, study.config.seed)

        return evidence

    return judged_by_looks(settings, TEST, claims_in(study, TEST), asked.looks, evidence_at)


def _norms(family: Family, finetunes: Sequence[str]) -> dict[str, float]:
    """‖Δ_T‖²_F over all tensors."""

    def norm(finetune: str) -> float:
        return sum(parallel_map(lambda name: squared_norm(family.task_update(name, finetune)), family.names()))

    return {finetune: norm(finetune) for finetune in dict.fromkeys(finetunes)}


def _shared_basis(point: UpdatePoint) -> tuple[str, str, str]:
    """Points of one fine-tune, hypothesis and method share a basis and its coefficients."""
    return point.finetune, point.hypothesis, point.method
