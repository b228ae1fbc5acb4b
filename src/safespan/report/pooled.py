"""Runs that differ by their seed alone, pooled: verdicts about the recipe (METHODS §7)."""

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import groupby

import numpy as np

from safespan.report.page import read_results
from safespan.results import Manifest, RunFolder
from safespan.results.claim_tables import EstimateRow, PooledRow, VerdictRow
from safespan.results.table_files import rows_of
from safespan.settings.verdict import SelectivityConfig
from safespan.statistics.effects import SCORE
from safespan.statistics.pooled import LEAST_SEEDS, PooledEffect
from safespan.statistics.verdicts import CLAIM, INCONCLUSIVE, Judged, Verdict, judge_family

_OF_A_RUN = ("seed", "replicates", "execution", "threads")
"""Fields of a study that are not of its recipe."""

Key = tuple[str, str, str]
"""(hypothesis, test, outcome)."""

_log = logging.getLogger(__name__)


def pooled_rows(runs: Sequence[RunFolder]) -> list[PooledRow]:
    """Verdicts about every recipe of which there are several seeds, in the order of the runs' tables.

    A second run of one seed, or of the very same models, tells nothing more about a recipe: it is left out, with a
    warning.
    """
    recipes: dict[str, dict[str, RunFolder]] = defaultdict(dict)
    for run in runs:
        manifest = run.read_manifest()
        if not manifest.config.get("verdict"):
            continue
        others = recipes[_recipe(manifest)]
        weights = {role: manifest.inputs.get(role) for role in manifest.config.get("models", {})}
        names = (f"seed {manifest.seed}", f"models {json.dumps(weights, sort_keys=True)}")
        if same := next((others[name] for name in names if name in others), None):
            _log.warning(f"{run.root} has the seed or the models of {same.root}: it is not pooled with it")
        else:
            others |= dict.fromkeys(names, run)
    distinct = ([*dict.fromkeys(of_recipe.values())] for of_recipe in recipes.values())
    return [row for of_recipe in distinct if len(of_recipe) > 1 for row in _of_recipe(of_recipe)]


def _recipe(manifest: Manifest) -> str:
    """What runs of one recipe have in common, as text."""
    own = {name: value for name, value in manifest.config.items() if name not in _OF_A_RUN}
    return json.dumps(own, sort_keys=True)


def _of_recipe(runs: Sequence[RunFolder]) -> Iterator[PooledRow]:
    manifest = runs[0].read_manifest()
    settings = SelectivityConfig(
        **{name: value for name, value in manifest.config["verdict"].items() if name in SelectivityConfig.model_fields}
    )
    tables = [read_results(run) for run in runs]
    groups = {
        (row.hypothesis, row.test): (row.kind, row.group)
        for results in tables
        for row in rows_of(results["verdicts"], VerdictRow)
    }
    found: dict[Key, dict[str, list[EstimateRow]]] = defaultdict(lambda: defaultdict(list))
    for results in tables:
        for row in rows_of(results["estimates"], EstimateRow):
            if not np.isnan(row.estimate) and (row.decides or row.statistic == SCORE):
                found[row.hypothesis, row.test, row.outcome][row.method or ""].append(row)
    for (test, outcome), keys in groupby(sorted(found, key=lambda key: key[1:]), key=lambda key: key[1:]):
        effects = {key[0]: _effects(found[key]) for key in keys if len(found[key][""]) > 1}
        rows = {name: found[name, test, outcome][""][0] for name in effects}
        of_groups = {name: groups[name, test][1] for name in effects}
        for construct in dict.fromkeys(row.construct for row in rows.values()):  # an outcome has one
            for name, judged in _judged(effects, of_groups, construct, settings):
                yield _row(manifest.name, groups[name, test], rows[name], effects[name][-1], judged)


def _effects(by_method: Mapping[str, Sequence[EstimateRow]]) -> list[PooledEffect]:
    """S of every method, and the statistic that decides."""
    return [
        PooledEffect(
            rows[0].statistic,
            np.array([row.estimate for row in rows]),
            np.array([row.error for row in rows]),
            max(1, min(row.prompts or 1 for row in rows)),
        )
        for _, rows in sorted(by_method.items(), key=lambda item: (item[0] == "", item[0] != "parallel"))
        if len(rows) > 1
    ]


def _judged(
    effects: Mapping[str, Sequence[PooledEffect]],
    groups: Mapping[str, str],
    construct: str,
    settings: SelectivityConfig,
) -> Iterable[tuple[str, Judged]]:
    """Claims are one family; controls of the test are each judged by themselves."""
    claims = {name: own for name, own in effects.items() if groups[name] == CLAIM}
    for family in (claims, *({name: own} for name, own in effects.items() if name not in claims)):
        for name, judged in judge_family(family, construct, settings.margin, settings.level).items():
            seeds = len(effects[name][-1].values)
            few = f"{seeds} seeds; a verdict about a recipe needs {LEAST_SEEDS}"
            yield name, judged if seeds >= LEAST_SEEDS else replace(judged, verdict=Verdict(INCONCLUSIVE, few))


def _row(recipe: str, kind: tuple[str, str], one: EstimateRow, effect: PooledEffect, judged: Judged) -> PooledRow:
    half = effect.half_width(judged.level)
    return PooledRow(
        recipe=recipe,
        hypothesis=one.hypothesis,
        kind=kind[0],
        group=kind[1],
        test=one.test,
        construct=one.construct,
        outcome=one.outcome,
        votes=one.votes,
        statistic=effect.statistic,
        seeds=len(effect.values),
        estimate=effect.value,
        low=effect.value - half,
        high=effect.value + half,
        confidence=1 - 2 * judged.level,
        sd=float(effect.values.std(ddof=1)),
        tau=effect.tau,
        p_selective=judged.p,
        **asdict(judged.verdict),
    )
