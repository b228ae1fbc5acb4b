"""What a study would do, said beforehand and without the network."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from safespan.checkpoints import local_place
from safespan.choices import SUBSPACES
from safespan.config import ModelSource, StudyConfig
from safespan.data import PromptSource, RowSource
from safespan.errors import DataError
from safespan.evaluation import UtilityConfig
from safespan.projection import trial_finetunes, trial_points
from safespan.rowfiles import read_file
from safespan.subspaces import find_hypothesis
from safespan.training.recipe import TrainingConfig

_STORED_BYTES, _TRAINED_BYTES = 2, 4
"""Of a weight: checkpoints on the hub hold 16 bits, what is trained here is written in 32."""


def plan(config: StudyConfig, out: Path) -> list[str]:
    """The models, data, stages, points and prompts of a study, the bytes to read, and what is not on this disk."""
    here = config.resolved(out)
    made = [f"data: {config.data}, written to {out / 'data'}"] if config.data else []
    data = [f"{what}: {_rows(source)}" for what, source in _sources(here)]
    missing = [source.model for source in here.models.values() if source.model and local_place(source.model) is None]
    missing += [source.name for _, source in _sources(here) if source.dataset and not Path(source.dataset).exists()]
    missing += [f"lm-eval task {task.task}" for task in _tasks(here) if not task.task.endswith((".yaml", ".yml"))]
    return [
        f"study: {config.name}",
        *made,
        *_models(here),
        *data,
        *_stages(here),
        f"downloads unless cached: {', '.join(dict.fromkeys(missing)) or 'nothing'}",
    ]


def points(config: StudyConfig) -> int:
    """Points of the projection grid, over all fine-tunes."""
    grid = config.projection
    if grid is None:
        return 0
    subspaces = grid.subspaces or [name for name in SUBSPACES if name != "safety" or "safe" in config.models]
    return len(config.finetunes) * len(subspaces) * len(grid.methods) * len(grid.fractions)


def _models(config: StudyConfig) -> list[str]:
    lines: list[str] = []
    sizes: dict[str, float] = {}
    for role, source in config.models.items():
        if source.model is not None:
            sizes[role] = _gigabytes(source)
            lines.append(f"model {role}: {source.model}, {_size(sizes[role])}")
        elif source.train is not None:
            start = config.models.get(str(source.start))
            growth = _TRAINED_BYTES / _STORED_BYTES if start and start.model else 1
            sizes[role] = growth * sizes.get(str(source.start), 0.0)
            lines.append(f"model {role}: {source.start} trained for {_length(source.train)}, {_size(sizes[role])}")
    unknown = "" if all(sizes.values()) else " and the models of unknown size"
    return [*lines, f"weights to read in one pass: {sum(sizes.values()):.1f} GB{unknown}"]


def _length(train: TrainingConfig) -> str:
    return f"{train.max_steps} steps" if train.max_steps else f"{train.epochs:g} epochs"


def _size(gigabytes: float) -> str:
    return f"{gigabytes:.1f} GB" if gigabytes else "size unknown"


def _gigabytes(source: ModelSource) -> float:
    place = local_place(source.model or "")
    if place is None:
        return source.size_gb or 0.0
    files = [place] if place.is_file() else place.glob("*.safetensors")
    return sum(file.stat().st_size for file in files) / 1e9


def _sources(config: StudyConfig) -> Iterator[tuple[str, RowSource]]:
    for role, source in config.models.items():
        if source.train is not None:
            yield f"rows of {role}", source.train.data
            if source.train.contaminate_with is not None:
                percent = f"{source.train.contamination_percent:g} %"
                yield f"rows of {role}, {percent} as many", source.train.contaminate_with
    evaluation, activations = config.evaluation, config.activations
    asked: list[tuple[str, PromptSource | None]] = [
        ("harmful prompts", evaluation.harmfulness.prompts if evaluation.harmfulness else None),
        ("benign prompts", evaluation.over_refusal.prompts if evaluation.over_refusal else None),
        ("useful prompts for activations", activations.useful if activations else None),
        ("harmful prompts for activations", activations.harmful if activations else None),
    ]
    yield from ((what, source) for what, source in asked if source is not None)


def _rows(source: RowSource) -> str:
    wanted = "" if source.rows is None else f", {source.rows} rows"
    if source.file is None:
        return f"{source.name}{wanted}"
    try:
        return f"{source.file}{wanted}, {len(read_file(Path(source.file)))} there"
    except DataError:
        return f"{source.file}{wanted}, not there yet"


def _tasks(config: StudyConfig) -> Iterator[UtilityConfig]:
    yield from (task for task in (config.evaluation.utility, config.evaluation.general) if task is not None)


def _stages(config: StudyConfig) -> list[str]:
    evaluation, activations, overlap = config.evaluation, config.activations, config.overlap
    trained = [role for role, source in config.models.items() if source.train]
    count = points(config)
    asked = [f"utility {task.task}{f', {task.limit} documents' if task.limit else ''}" for task in _tasks(config)]
    if evaluation.harmfulness:
        limit = f" at most {evaluation.harmfulness.limit}" if evaluation.harmfulness.limit else ""
        asked.append(f"harmful prompts{limit}, judged by {_judge(evaluation.harmfulness.judge)}")
    return [
        *([f"stage data: {config.data}"] if config.data else []),
        *(f"stage model {role}" for role in trained),
        f"stage outcomes: {len(config.models)} models; each answers {'; '.join(asked)}",
        *([f"stage projection: {count} points, each answers the same"] if count else []),
        *([f"stage model {overlap.ceiling} again: with the next seed"] if overlap and overlap.ceiling else []),
        *(
            [f"stage update overlap: {', '.join(overlap.granularities)}, {len(overlap.energies)} energies; spectra"]
            if overlap
            else []
        ),
        *([f"stage activation overlap: {', '.join(activations.models)}"] if activations else []),
        *_verdict(config),
    ]


def _verdict(config: StudyConfig) -> list[str]:
    if config.verdict is None:
        return []
    given = list(dict.fromkeys(trial_finetunes(config.models)))
    count = sum(
        len(trial_points(find_hypothesis(name), given, config.verdict.fractions, config.verdict.controls))
        for name in config.tested
    )
    named = ", ".join(config.tested)
    return [f"stage verdict: {named}; {count} points, each asked {config.verdict.prompts} prompts of a kind"]


def _judge(judge: BaseModel) -> str:
    return " ".join(str(value) for name, value in judge if name in ("kind", "model", "base_url") and value)
