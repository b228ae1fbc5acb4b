"""The trials of a study: every hypothesis and its random controls measured, and judged."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from safespan.activations import capture_for_hypotheses
from safespan.checkpoints import Checkpoint
from safespan.config import StudyConfig, VerdictConfig
from safespan.data import read_prompts
from safespan.errors import ConfigError
from safespan.evaluation import Answered, Evaluator, Measures, ModelWorker, PointWorker, Repeat
from safespan.execution import Execution
from safespan.experiments import asking, finished_point, point_file
from safespan.kernels import squared_norm
from safespan.pool import side_by_side
from safespan.progress import counted, counting
from safespan.projection import Family, TrialPoint, TrialWeights, trial_finetunes, trial_points
from safespan.results import SCHEMAS, RunFolder, write_json, write_table
from safespan.statistics.selectivity import Ends, Estimate, Frontier, estimates, no_span
from safespan.statistics.verdicts import Verdict, holm, judge, no_room, together
from safespan.subspaces import Decompose, Hypothesis, find_hypothesis
from safespan.updates import update

OUTCOMES = {
    "answer NLL": ("useful_nll", "harmful_nll"),
    "first-token log-odds": ("useful_nll", "log_odds"),
    "exact match and ASR": ("correct", "attack"),
}
"""Outcome -> what u and h are measured by."""

_FALLS = ("useful_nll", "harmful_nll")
"""Measures that a fine-tune lowers."""


def capture_activations(config: StudyConfig, aligned: Checkpoint, run: RunFolder) -> None:
    """Activations of the aligned model on the study's useful and harmful prompts, for the hypotheses that need them."""
    if config.activations is None:
        raise ConfigError("this study has no field activations")
    sources = {"useful": config.activations.useful, "harmful": config.activations.harmful}
    prompts = {kind: [prompt.prompt for prompt in read_prompts(source)] for kind, source in sources.items()}
    capture_for_hypotheses(aligned, prompts, run.captured, config.activations.batch_size)


def run_trials(
    config: StudyConfig,
    family: Family,
    evaluator: Evaluator,
    run: RunFolder,
    key: str,
    execution: Execution,
    decompose: Decompose,
) -> None:
    """Tables `trials` and `verdicts`. Points that were measured before under the same key are taken as they stand."""
    settings = config.verdict
    assert settings is not None
    measures = Measures(settings, evaluator)
    hypotheses = [find_hypothesis(name) for name in config.tested]
    finetunes = trial_finetunes(family.finetuned)
    points = [
        point
        for hypothesis in hypotheses
        for point in trial_points(hypothesis, list(dict.fromkeys(finetunes)), settings.fractions, settings.controls)
    ]
    models = {"aligned": family.aligned, **{role: family.finetuned[role] for role in finetunes}}
    found = {name: kept for name in (*models, *(p.name for p in points)) if (kept := _kept(run, name, key))}
    known = {kept["weights"]: name for name, kept in found.items() if kept["weights"]}
    waiting = [point for point in points if point.name not in found]
    asked = len(waiting) + len(models.keys() - found.keys())
    with asking(measures, run, asked) as scratch, counting("points") as tick:
        tick(len(points) - len(waiting), len(points))
        make = partial(ModelWorker, measures.ask, evaluator.config.engine, scratch)
        roles = {checkpoint: role for role, checkpoint in models.items() if role not in found}
        for checkpoint, answered in execution.serve(make, list(roles), group=lambda checkpoint: roles[checkpoint]):
            found[roles[checkpoint]] = _keep(measures, run, roles[checkpoint], key, answered)
        source = partial(
            TrialWeights, family, finetunes, settings.fractions, settings.side, config.seed, scratch, decompose
        )
        worker = partial(PointWorker, measures.ask, source, evaluator.config.engine, family.aligned, scratch, known)
        for point, answered in execution.serve(worker, waiting, _group):
            found[point.name] = (
                _copy(run, point.name, found[answered.of])
                if isinstance(answered, Repeat)
                else _keep(measures, run, point.name, key, answered)
            )
            tick(sum(p.name in found for p in points), len(points))
    write_tables(config, hypotheses, points, found, _norms(family, finetunes), run)


def write_tables(
    config: StudyConfig,
    hypotheses: Sequence[Hypothesis],
    points: Sequence[TrialPoint],
    found: Mapping[str, Mapping[str, Any]],
    norms: Mapping[str, float],
    run: RunFolder,
) -> None:
    """Tables `trials` and `verdicts` from what was measured of every point and model."""
    rows = []
    for point in points:
        kept = found[point.name]
        energy = kept["energy"] / norms[point.finetune] if norms[point.finetune] else math.nan
        rows.append({**point._asdict(), "energy_kept": energy, **_means(kept["per_prompt"]), **kept["rates"]})
    write_table(run.table("trials"), rows, SCHEMAS["trials"])
    assert config.verdict is not None
    write_table(
        run.table("verdicts"), verdict_rows(config.verdict, hypotheses, points, found, config.seed), SCHEMAS["verdicts"]
    )


def verdict_rows(
    settings: VerdictConfig,
    hypotheses: Sequence[Hypothesis],
    points: Sequence[TrialPoint],
    found: Mapping[str, Mapping[str, Any]],
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of the table `verdicts`: per hypothesis its verdict, then each outcome's, then each method's figures."""
    silent: dict[tuple[str, str], str] = {}
    raw: dict[tuple[str, str], list[Estimate]] = {}
    for hypothesis in counted("hypotheses", hypotheses, len(hypotheses)):
        own = [point for point in points if point.hypothesis == hypothesis.name]
        for outcome in OUTCOMES:
            ends = _ends(own, found, outcome)
            reason = no_span(ends)
            if not reason:
                estimated = estimates(_frontiers(own, found, outcome), ends, settings, seed)
                reason = no_room(estimated, settings)
                raw[hypothesis.name, outcome] = estimated
            if reason:
                silent[hypothesis.name, outcome] = reason
    adjusted = holm(raw)
    rows = []
    for hypothesis in hypotheses:
        verdicts: dict[str, Verdict] = {}
        figures: list[dict[str, Any]] = []
        for outcome in OUTCOMES:
            key = (hypothesis.name, outcome)
            if key in silent:
                figures.append(
                    {"outcome": outcome, "method": "all", "verdict": "not measurable", "reason": silent[key]}
                )
            elif key in adjusted:
                tests = sum(len(estimated) for (_, other), estimated in adjusted.items() if other == outcome)
                verdicts[outcome] = judge(adjusted[key], settings, settings.prompts, tests)
                figures.append({"outcome": outcome, "method": "all", **asdict(verdicts[outcome])})
            figures += [{"outcome": outcome, **asdict(estimate)} for estimate in adjusted.get(key, ())]
        whole = together(verdicts)
        rows += [
            {"hypothesis": hypothesis.name, "kind": hypothesis.kind, **row}
            for row in ({"outcome": "all", "method": "all", **asdict(whole)}, *figures)
        ]
    return rows


def _ends(points: Sequence[TrialPoint], found: Mapping[str, Mapping[str, Any]], outcome: str) -> Ends:
    first, last = points[0].finetune, points[-1].finetune
    useful, harmful = OUTCOMES[outcome]
    return Ends(
        _outcome(found["aligned"], useful),
        _outcome(found["aligned"], harmful),
        _outcome(found[first], useful),
        _outcome(found[last], harmful),
    )


def _frontiers(
    points: Sequence[TrialPoint], found: Mapping[str, Mapping[str, Any]], outcome: str
) -> dict[str, Frontier]:
    """Method -> outcomes, points in order from the aligned model to the fine-tune."""
    frontiers = {}
    for method in dict.fromkeys(point.method for point in points):
        here = [point for point in points if point.method == method]
        # Parallel keeps more as the fraction grows; whatever takes out or edits keeps less.
        fractions = sorted({point.fraction for point in here}, reverse=method != "parallel")
        draws = sorted({point.draw for point in here if point.draw is not None})

        def along(
            finetune: str, draw: int | None, measure: str, here: Any = here, order: Any = fractions
        ) -> np.ndarray:
            own = {point.fraction: point for point in here if (point.finetune, point.draw) == (finetune, draw)}
            return np.stack([_outcome(found[own[fraction].name], measure) for fraction in order])

        useful, harmful = (
            (finetune, measure)
            for finetune, measure in zip((here[0].finetune, here[-1].finetune), OUTCOMES[outcome], strict=True)
        )
        frontiers[method] = Frontier(
            along(useful[0], None, useful[1]),
            along(harmful[0], None, harmful[1]),
            np.stack([along(useful[0], draw, useful[1]) for draw in draws]),
            np.stack([along(harmful[0], draw, harmful[1]) for draw in draws]),
        )
    return frontiers


def _outcome(kept: Mapping[str, Any], measure: str) -> np.ndarray:
    """One number a prompt, rising with the fine-tune; none where it was not measured."""
    values = np.array(kept["per_prompt"].get(measure, []), float)
    return -values if measure in _FALLS else values


def _means(per_prompt: Mapping[str, Sequence[float]]) -> dict[str, float]:
    names = {"correct": "utility", "attack": "attack_success_rate"}
    return {names.get(name, name): float(np.nanmean(values)) for name, values in per_prompt.items()}


def _norms(family: Family, finetunes: Sequence[str]) -> dict[str, float]:
    """‖Δ_T‖²_F over all tensors."""

    def norm(finetune: str) -> float:
        end = family.finetuned[finetune]
        return sum(side_by_side(lambda name: squared_norm(update(name, family.aligned, end)), family.names()))

    return {finetune: norm(finetune) for finetune in dict.fromkeys(finetunes)}


def _group(point: TrialPoint) -> tuple[str, str, str]:
    """Points that share a basis and its coefficients."""
    return point.finetune, point.hypothesis, point.method


def _keep(measures: Measures, run: RunFolder, name: str, key: str, answered: Answered) -> dict[str, Any]:
    measured = measures.score(answered.said)
    kept = {
        "key": key,
        "weights": answered.weights,
        "energy": answered.energy,
        "per_prompt": {
            measure: [round(value, 6) for value in values] for measure, values in measured.per_prompt.items()
        },
        "rates": dict(measured.rates),
        "seconds": answered.seconds,
    }
    return _write(run, name, kept)


def _copy(run: RunFolder, name: str, kept: Mapping[str, Any]) -> dict[str, Any]:
    """Keep for one point what was measured of another whose weights are the same."""
    return _write(run, name, {**kept, "seconds": {}})


def _write(run: RunFolder, name: str, kept: dict[str, Any]) -> dict[str, Any]:
    write_json(_file(run, name), kept)
    return kept


def _kept(run: RunFolder, name: str, key: str) -> dict[str, Any] | None:
    return finished_point(run, f"trials/{name}", key)


def _file(run: RunFolder, name: str) -> Path:
    return point_file(run, f"trials/{name}")
