"""The ablation test: the aligned model without what a claim names, beside random directions (METHODS §7)."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from safespan.linalg.kernels import squared_norm
from safespan.linalg.parallel import parallel_map
from safespan.projection import AblationWeights, ablation_points
from safespan.results.claim_tables import AblationPoint, AblationRow
from safespan.results.table_files import write_table
from safespan.settings.names import Test
from safespan.settings.verdict import Look
from safespan.statistics.ablation import capability_lost, is_measured
from safespan.statistics.verdicts import POSITIVE
from safespan.study.context import Study
from safespan.study.coverage import claims_in
from safespan.study.evidence import Evidence, ablation_evidence, base_evidence, curve_of, curves
from safespan.study.measured import Asked, PointsAsked, ask_models, looks_at, means, model_store, ratio
from safespan.study.verdicts import ClaimInTest, EvidenceOf, Judgement, judged_by_looks
from safespan.subspaces import find_hypothesis

if TYPE_CHECKING:
    from safespan.evaluation import Measured, Measures

_log = logging.getLogger(__name__)

TEST: Test = "ablation"

BASE = "base"
"""The positive control: the base model in place of the aligned one."""

MOST_HALVINGS = 6
"""Strengths down to 2⁻⁶ are tried where a claim or control destroys the model at every fraction."""


def ablation_models(study: Study) -> list[str]:
    """The models beside the points."""
    return [role for role in ("aligned", BASE) if role in study.config.models]


def run_ablation_test(study: Study, key: str) -> None:
    """Table `ablation`."""
    from safespan.evaluation import Measures, PointWorker

    settings, evaluator, family = study.resolved.verdict, study.evaluator, study.family
    assert settings is not None
    if study.config.evaluation.general is None:
        _log.warning(
            "ablation test: without evaluation.general, lost capability is measured on the useful questions alone; it "
            "means little where the aligned model cannot answer them: give a task that it can do"
        )
    models = ask_models(study, model_store(study, TEST, key), Measures(settings, evaluator), ablation_models(study))

    def worker(measures: "Measures", scratch: Path, known: Mapping[str, str]) -> partial[PointWorker]:
        weights = partial(
            AblationWeights, family, settings.fractions, settings.side, study.config.seed, scratch, study.decompose
        )
        return partial(PointWorker, measures.ask, weights, study.prompting, family.aligned, scratch, known)

    asked: PointsAsked[AblationPoint] = PointsAsked(
        study, TEST, key, looks_at(study, models), worker, lambda point: point.hypothesis
    )
    judge_ablations(study, models, asked)
    write_table(study.run.table(TEST), AblationRow, _rows(study, asked.known, models["aligned"]))


def judge_ablations(study: Study, models: "Mapping[str, Measured]", asked: PointsAsked[AblationPoint]) -> Judgement:
    """The judgement of all claims, look by look; what a look needs is asked, or only read.

    Args:
        study: the study.
        models: what was measured of the aligned model and, if there is one, of base.
        asked: the points.
    """
    settings = study.resolved.verdict
    assert settings is not None
    seed = study.config.seed

    def evidence_at(names: Sequence[str], look: Look) -> EvidenceOf | None:
        measured = {role: of_role.first(look.prompts) for role, of_role in models.items()}
        first = [
            point
            for name in names
            if name != BASE
            for point in ablation_points(find_hypothesis(name), settings.fractions, look.controls)
        ]
        known = with_weaker_points(first, look.prompts, measured["aligned"], asked)
        if known is None:
            return None
        measured |= {point.name: one.measured for point, one in known.items()}
        weights = {point.name: one.weights for point, one in known.items()}

        def evidence(hypothesis: str, outcome: str) -> Evidence:
            if hypothesis == BASE:
                return base_evidence(settings, measured, outcome, seed)
            own = [point for point in known if point.hypothesis == hypothesis]
            return ablation_evidence(settings, own, measured, weights, outcome, seed)

        return evidence

    claims = claims_in(study, TEST)
    if BASE in models:
        claims.append(ClaimInTest(BASE, "model", POSITIVE))
    return judged_by_looks(settings, TEST, claims, asked.looks, evidence_at)


def with_weaker_points(
    first: Sequence[AblationPoint], prompts: int, aligned: "Measured", asked: PointsAsked[AblationPoint]
) -> dict[AblationPoint, Asked] | None:
    """What was measured of the points, and of those of half the strength that are added where a curve is not measured.

    Args:
        first: points at full strength.
        prompts: that are asked.
        aligned: what was measured of the aligned model on these prompts.
        asked: asks the points, or reads them.
    """
    known: dict[AblationPoint, Asked] = {}
    more = list(first)
    for _ in range(1 + MOST_HALVINGS):
        if not more:
            break
        answered = asked.upto(sorted(more, key=lambda point: (point.hypothesis, point.fraction)), prompts)
        if answered is None:
            return None
        known |= {point: answered[point] for point in more}
        more = _weaker(known, aligned)
    return known


def _weaker(known: Mapping[AblationPoint, Asked], aligned: "Measured") -> list[AblationPoint]:
    """The point to add to every curve that is not measured: the smallest fraction at half of the least strength."""
    added, start = [], curve_of([aligned], "compliance")
    for own in curves(known).values():
        curve = curve_of([known[point].measured for point in own], "compliance")
        if not is_measured(curve, start, [known[point].weights for point in own]):
            least = min(own, key=lambda point: (point.fraction, point.strength))
            added.append(replace(least, strength=least.strength / 2))
    return added


def _rows(study: Study, known: Mapping[AblationPoint, Asked], aligned: "Measured") -> list[AblationRow]:
    """A row per point; before them, at strength 0, the aligned model for each hypothesis."""
    if not known:
        return []
    family = study.family
    norm = sum(parallel_map(lambda name: squared_norm(family.removable(name, "weights")), family.names()))
    least, names = min(point.fraction for point in known), dict.fromkeys(point.hypothesis for point in known)
    whole = {"energy_removed": 0.0, "capability_lost": 0.0, **means(aligned)}
    rows = [AblationRow(name, least, 0.0, None, **whole) for name in names]
    for point, one in known.items():
        start = curve_of([aligned.first(len(one.measured.per_prompt["harmful_nll"]))], "compliance")
        [lost] = capability_lost(curve_of([one.measured], "compliance"), start).tolist()
        removed = ratio(one.energy, norm)
        figures = {"energy_removed": removed, "capability_lost": lost, **means(one.measured)}
        rows.append(AblationRow(**vars(point), **figures))
    return rows
