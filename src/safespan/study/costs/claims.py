"""The work of the three tests of claims: at least, where every claim is decided at the first look, and at most."""

from dataclasses import replace
from itertools import pairwise

from safespan.settings import StudyConfig
from safespan.settings.verdict import Look, VerdictConfig, looks_of, update_finetunes
from safespan.study.claim_ablation import MOST_HALVINGS
from safespan.study.costs.asking import Asking
from safespan.study.costs.work import Work
from safespan.study.evidence import outcomes_of
from safespan.subspaces import find_hypothesis

_RECORD = 4000
"""Bytes of the record of one point, about."""


def update_work(config: StudyConfig, asking: Asking, names: list[str]) -> tuple[Work, Work]:
    """The least and the most of the update test."""
    finetunes = set(update_finetunes(config.models))
    curves = sum(2 if find_hypothesis(name).kind == "subspace" else 1 for name in names) * len(finetunes)
    return _by_looks(config, asking, curves, 1 + len(finetunes), 0, len(names) * len(outcomes_of("update")))


def ablation_work(config: StudyConfig, asking: Asking, names: list[str]) -> tuple[Work, Work]:
    """The least and the most of the ablation test: at most each curve gets points of half the strength, and so on."""
    models = len([role for role in ("aligned", "base") if role in config.models])
    judged = (len(names) + (models > 1)) * len(outcomes_of("ablation"))
    return _by_looks(config, asking, len(names), models, MOST_HALVINGS, judged)


def _by_looks(
    config: StudyConfig, asking: Asking, curves: int, models: int, added: int, judged: int
) -> tuple[Work, Work]:
    """The least and the most of a test that looks until claims are decided.

    Args:
        config: the study.
        asking: what is asked.
        curves: of claims; each has so many more as there are draws of controls.
        models: that are asked beside the points.
        added: points that may be added to a curve.
        judged: claims and outcomes at a look.
    """
    verdict = config.verdict
    assert verdict is not None
    looks = looks_of(verdict, asking.available)
    whole = (asking.part(0, verdict.prompts) + Work(opened=1)) * models
    if not curves:
        return whole, whole
    first = _points(asking, verdict, [looks[0]], looks[0].controls, curves, 0)
    last = _points(asking, verdict, looks, looks[-1].controls, curves, added)
    return whole + first + Work(judged=judged), whole + last + Work(judged=judged * len(looks))


def _points(
    asking: Asking, verdict: VerdictConfig, looks: "list[Look] | tuple[Look, ...]", draws: int, curves: int, added: int
) -> Work:
    """All points, put to every part of the prompts."""
    own = curves * (len(verdict.fractions) + added)
    total = Work()
    for start, stop in pairwise([0, *dict.fromkeys(look.prompts for look in looks)]):
        asked = asking.part(start, stop) * (own * (1 + draws))
        total += asked + Work(points=own, controls=own * draws, written=_RECORD * own * (1 + draws))
    return total


def training_test_work(
    config: StudyConfig, asking: Asking, names: list[str], one: Work, clean: Work
) -> tuple[Work, Work]:
    """The least and the most of the training test: at least all claims share their random controls, at most none does.

    Args:
        config: the study.
        asking: what is asked.
        names: the claims.
        one: the contaminated training.
        clean: the same without its harmful rows.
    """
    verdict = config.verdict
    assert verdict is not None
    asked = asking.part(0, verdict.prompts)
    one, clean = (
        replace(work, written=_RECORD, held_steps=0) + asked * (verdict.training.points + 1) for work in (one, clean)
    )
    held = one + Work(held_steps=one.steps)
    models = asked + Work(opened=1)

    def all_of(groups: int) -> Work:
        return models + one + clean + held * (len(names) + groups * verdict.training.controls)

    return all_of(min(1, len(names))), all_of(len(names))
