"""What a dry run says of each stage, beside its name."""

from pydantic import BaseModel

from safespan.settings import StudyConfig
from safespan.settings.names import SUBSPACES, Test
from safespan.settings.verdict import looks_of, update_finetunes
from safespan.study.claim_ablation import MOST_HALVINGS
from safespan.study.needs import tested_hypotheses
from safespan.subspaces import find_hypothesis


def outcomes(config: StudyConfig) -> str:
    """How many models are asked what."""
    evaluation = config.evaluation
    asked = [
        f"{'the first ' + str(task.limit) if task.limit else 'all'} questions of the {kind} task {task.task}"
        for kind, task in (("utility", evaluation.utility), ("general", evaluation.general))
        if task
    ]
    if evaluation.harmfulness:
        limit = f"the first {evaluation.harmfulness.limit}" if evaluation.harmfulness.limit else "all"
        asked.append(f"{limit} harmful prompts, judged by {_judge(evaluation.harmfulness.judge)}")
    if evaluation.over_refusal:
        limit = f"the first {evaluation.over_refusal.limit}" if evaluation.over_refusal.limit else "all"
        asked.append(f"{limit} benign prompts")
    return f"{len(config.models)} models; each answers {'; '.join(asked) or 'nothing'}"


def grid_points(config: StudyConfig) -> int:
    """Points of the projection grid, over all fine-tunes."""
    grid = config.projection
    if grid is None:
        return 0
    subspaces = grid.subspaces or [name for name in SUBSPACES if name != "safety" or "safe" in config.models]
    return len(config.finetunes) * len(subspaces) * len(grid.methods) * len(grid.fractions)


def update_overlap(config: StudyConfig) -> str:
    """What overlap is measured of."""
    overlap = config.overlap
    if overlap is None:
        return ""
    return f"of each {' and each '.join(overlap.granularities)}, at {len(overlap.energies)} shares of energy; spectra"


def test(config: StudyConfig, name: Test) -> str:
    """Which claims are put to a test, and how much is asked."""
    names, settings = tested_hypotheses(config, name), config.verdict
    if settings is None or not names:
        return ""
    last = looks_of(settings, settings.prompts)[-1]
    own, each = 1 + last.controls, f"each is asked {last.prompts} prompts of each kind, or all if there are fewer"
    if settings.until_decided:
        each += "; less is asked if its claim is decided earlier"
    if name == "training":
        least = len(names) + settings.training.controls + 2
        moments = settings.training.points + 1
        return f"{', '.join(names)}; at least {least} trainings, each is measured at {moments} moments"
    if name == "ablation":
        points, weaker = (len(names) * number * own for number in (len(settings.fractions), MOST_HALVINGS))
        more = f"and {weaker} of less strength if all of these destroy the model"
        return f"{', '.join(names)}; at most {points} points, {more}; {each}"
    methods = sum(2 if find_hypothesis(hypothesis).kind == "subspace" else 1 for hypothesis in names)
    points = methods * len(set(update_finetunes(config.models))) * len(settings.fractions) * own
    return f"{', '.join(names)}; at most {points} points, {each}"


def _judge(judge: BaseModel) -> str:
    return " ".join(str(value) for name, value in judge if name in ("kind", "model", "base_url") and value)
