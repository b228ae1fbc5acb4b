"""How much of the model each claim names in each test, before any set of weights is asked."""

import logging
from functools import partial

from safespan.projection import coverage
from safespan.results.claim_tables import CoverageRow
from safespan.results.table_files import rows_of, write_table
from safespan.settings.names import Test
from safespan.settings.verdict import chosen_tests, update_finetunes
from safespan.statistics.verdicts import NOT_MEASURABLE, TOO_SMALL, Verdict
from safespan.study.context import Study
from safespan.study.needs import tested_hypotheses
from safespan.study.verdicts import ClaimInTest, group_of
from safespan.subspaces import find_hypothesis
from safespan.subspaces.hypothesis import Kind

_log = logging.getLogger(__name__)

LEAST_ENERGY = 0.01
"""Share of Δ_T's energy below which the update test is too small (METHODS §7)."""


def measure_coverage(study: Study) -> None:
    """Table `coverage`: every hypothesis in every test."""
    verdict, family = study.resolved.verdict, study.family
    assert verdict is not None
    rows = []
    for test in chosen_tests(verdict, study.config.models):
        for name in tested_hypotheses(study.resolved, test):
            hypothesis = find_hypothesis(name)
            finetune = None if test == "ablation" else update_finetunes(family.finetuned)[1]
            if finetune is None:
                delta = partial(family.removable, removal=str(hypothesis.removes))
            else:
                delta = partial(family.task_update, finetune=finetune)
            training = test == "training"
            fraction = verdict.training.fraction if training else max(verdict.fractions)
            side = verdict.training_side if training else verdict.side
            covered = coverage(family, hypothesis, delta, finetune, fraction, side, study.config.seed, study.decompose)
            remark = family.remark_on(hypothesis)
            rows.append(CoverageRow(name, test, **vars(covered), remark=remark or None))
    for remark in dict.fromkeys(row.remark for row in rows if row.remark):
        claims = dict.fromkeys(row.hypothesis for row in rows if row.remark == remark)
        _log.warning(f"{', '.join(claims)}: {remark}")
    write_table(study.run.table("coverage"), CoverageRow, rows)


def coverage_of(study: Study, test: Test) -> dict[str, CoverageRow]:
    """Hypothesis -> its row of one test."""
    rows = rows_of(study.run.read_table("coverage"), CoverageRow)
    return {row.hypothesis: row for row in rows if row.test == test}


def untested_reason(row: CoverageRow, kind: Kind) -> tuple[str, str]:
    """The verdict on a hypothesis that is not put to a test, and why; two empty texts where it is."""
    share = f"it names {row.matrices_named} of {row.matrices} matrices, which hold {row.energy_named:.2%} of the energy"
    if row.matrices_named == 0 and kind in ("layers", "addition"):
        return NOT_MEASURABLE, f"its edit changes none of {row.matrices} matrices at any of these fractions"
    if row.matrices_named == 0:
        return NOT_MEASURABLE, share
    if row.test == "update" and row.energy_held < LEAST_ENERGY:
        return TOO_SMALL, (
            f"its subspace holds {row.energy_held:.2%} of the update's energy at the largest fraction, less than "
            f"{LEAST_ENERGY:.0%}; {share}"
        )
    return "", ""


def measurable(study: Study, test: Test) -> list[str]:
    """The hypotheses that are put to a test."""
    return [one.hypothesis for one in claims_in(study, test) if one.untested is None]


def claims_in(study: Study, test: Test) -> list[ClaimInTest]:
    """The hypotheses in a test, also those that cannot be put to it."""
    claims = []
    for name, row in coverage_of(study, test).items():
        kind = find_hypothesis(name).kind
        verdict, reason = untested_reason(row, kind)
        untested = Verdict(verdict, reason) if verdict else None
        claims.append(ClaimInTest(name, kind, group_of(name, test), untested, row.remark or ""))
    return claims
