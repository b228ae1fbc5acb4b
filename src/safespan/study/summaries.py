"""What a dry run says of each stage, beside its name."""

from pydantic import BaseModel

from safespan.settings import StudyConfig
from safespan.settings.names import SUBSPACES
from safespan.study.needs import tested_hypotheses, tested_points


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


def verdict(config: StudyConfig) -> str:
    """Which hypotheses are tested, and at how many points."""
    if config.verdict is None:
        return ""
    tested, count = ", ".join(tested_hypotheses(config)), len(tested_points(config))
    return f"{tested}; {count} points, each asked {config.verdict.prompts} prompts of a kind"


def _judge(judge: BaseModel) -> str:
    return " ".join(str(value) for name, value in judge if name in ("kind", "model", "base_url") and value)
