"""What a study would do, before it does it and without the network."""

from collections.abc import Iterator
from pathlib import Path

from safespan.checkpoints import local_place
from safespan.data import read_file
from safespan.errors import DataError
from safespan.models.folders import weight_files
from safespan.settings import PromptSource, RowSource, StudyConfig, TrainingConfig
from safespan.settings.study import ModelSource
from safespan.study.context import Study
from safespan.study.needs import check_needs
from safespan.study.stages import stages

_STORED_BYTES, _TRAINED_BYTES = 2, 4
"""Of a weight: checkpoints on the hub hold 16 bits, what is trained here is written in 32."""


def plan(config: StudyConfig, out: Path) -> list[str]:
    """The models, data, stages, points and prompts of a study, the bytes to read, and what is not on this disk.

    Raises:
        ConfigError: a hypothesis needs what the study does not have.
    """
    check_needs(config)
    several = config.replicates > 1
    seeds = f"{config.seed} to {config.seed + config.replicates - 1}, each in {out / 'seeds'}; of each:"
    out = out / "seeds" / str(config.seed) if several else out
    study = Study(config, out)
    resolved = study.resolved
    made = [f"data: {config.data}, written to {out / 'data'}"] if config.data else []
    sources = list(_sources(resolved))
    missing = [source.model for source in resolved.models.values() if source.model and not local_place(source.model)]
    missing += [source.name for _, source in sources if source.dataset and not Path(source.dataset).exists()]
    tasks = [task.task for task in (resolved.evaluation.utility, resolved.evaluation.general) if task]
    missing += [f"lm-eval task {task}" for task in tasks if not task.endswith((".yaml", ".yml"))]
    return [
        f"study: {config.name}",
        *([f"seeds: {seeds}"] if several else []),
        *made,
        *_models(resolved),
        *(f"{what}: {_rows(source)}" for what, source in sources),
        *(f"stage {stage.name}{f': {stage.summary}' if stage.summary else ''}" for stage in stages(study)),
        f"downloads unless cached: {', '.join(dict.fromkeys(missing)) or 'nothing'}",
    ]


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
    files = [place] if place.is_file() else weight_files(place)
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e9


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
