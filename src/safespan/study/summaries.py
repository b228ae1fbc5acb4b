"""What a dry run says of each stage, beside its name."""

from pydantic import BaseModel

from safespan.settings import StudyConfig
from safespan.settings.names import SUBSPACES, Test
from safespan.settings.verdict import looks_of, update_finetunes
from safespan.study.needs import tested_hypotheses
from safespan.subspaces import find_hypothesis


def outcomes(config: StudyConfig) -> str:
    """How many models are asked what."""
    evaluation = config.evaluation
    asked = [
        f"utility {task.task}{f', {task.limit} documents' if task.limit else ''}"
        for task in (evaluation.utility, evaluation.general)
        if task
    ]
    if evaluation.harmfulness:
        limit = f" at most {evaluation.harmfulness.limit}" if evaluation.harmfulness.limit else ""
        asked.append(f"harmful prompts{limit}, judged by {_judge(evaluation.harmfulness.judge)}")
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
    return f"{', '.join(overlap.granularities)}, {len(overlap.energies)} energies; spectra" if overlap else ""


def test(config: StudyConfig, name: Test) -> str:
    """Which hypotheses are put to a test, and how much is asked."""
    names, settings = tested_hypotheses(config, name), config.verdict
    if settings is None or not names:
        return ""
    last = looks_of(settings, settings.prompts)[-1]
    own, each = 1 + last.controls, f"each asked {last.prompts} prompts of a kind"
    if settings.until_decided:
        each += "; less where a claim is decided before"
    if name == "training":
        least = len(names) + settings.training.controls + 2
        return f"{', '.join(names)}; at least {least} trainings, each asked at {settings.training.points + 1} points"
    if name == "ablation":
        return f"{', '.join(names)}; about {len(names) * len(settings.fractions) * own} points, {each}"
    methods = sum(2 if find_hypothesis(hypothesis).kind == "subspace" else 1 for hypothesis in names)
    points = methods * len(set(update_finetunes(config.models))) * len(settings.fractions) * own
    return f"{', '.join(names)}; at most {points} points, {each}"


def _judge(judge: BaseModel) -> str:
    return " ".join(str(value) for name, value in judge if name in ("kind", "model", "base_url") and value)
