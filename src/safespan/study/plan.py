"""What a study would do, before it does it and without the network."""

from pathlib import Path

from safespan.checkpoints import local_place
from safespan.data.task_files import has_documents_here
from safespan.models.folders import weight_files
from safespan.settings import StudyConfig, TrainingConfig
from safespan.settings.study import ModelSource
from safespan.study.context import Study
from safespan.study.inputs import Named, check_data
from safespan.study.needs import check_needs, left_out
from safespan.study.stages import stages
from safespan.study.texts import check_texts

_STORED_BYTES, _TRAINED_BYTES = 2, 4
"""Of a weight: checkpoints on the hub hold 16 bits, what is trained here is written in 32."""


def plan(config: StudyConfig, out: Path) -> list[str]:
    """The models, data, stages, points and prompts of a study, the bytes to read, and what is not on this disk.

    Data, tokenizers and chat templates that are on this disk are read and checked, weights are not.

    Raises:
        ConfigError: a hypothesis needs what the study does not have.
        DataError: rows or prompts on this disk cannot be used.
        CheckpointError: the folder, tokenizer or chat template of a model cannot be used.
    """
    check_needs(config)
    several = config.replicates > 1
    seeds = f"{config.seed} to {config.seed + config.replicates - 1}, each in {out / 'seeds'}; of each:"
    out = out / "seeds" / str(config.seed) if several else out
    study = Study(config, out)
    resolved = study.resolved
    made = [f"data: {config.data}, written to {out / 'data'}"] if config.data else []
    data = check_data(resolved, study.run)
    missing = [source.model for source in resolved.models.values() if source.model and not local_place(source.model)]
    missing += [named.source.name for named, rows in data if rows is None and not _is_made(named)]
    unread = check_texts(resolved, [named for named, rows in data if rows is not None])
    tasks = [task.task for task in (resolved.evaluation.utility, resolved.evaluation.general) if task]
    missing += [f"lm-eval task {task}" for task in tasks if not task.endswith((".yaml", ".yml"))]
    unchecked = [named.source.name for named, rows in data if rows is None]
    unchecked += [f"lm-eval task {task}" for task in tasks if not has_documents_here(task)]
    return [
        f"study: {config.name}",
        *([f"seeds: {seeds}"] if several else []),
        *made,
        *_models(resolved),
        *(f"{named.what}: {_rows(named, rows)}" for named, rows in data),
        *(f"stage {stage.name}{f': {stage.summary}' if stage.summary else ''}" for stage in stages(study)),
        *left_out(resolved),
        f"data not checked: {', '.join(dict.fromkeys(unchecked)) or 'none'}",
        f"tokenizers, templates and lengths not checked, of: {', '.join(unread) or 'none'}",
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


def _rows(named: Named, rows: int | None) -> str:
    """The rows that are used; those that are wanted, where they cannot be read yet."""
    wanted = rows or named.source.rows
    count = f", {wanted} rows" if wanted else ""
    return f"{named.source.name}{count}{', not there yet' if rows is None and _is_made(named) else ''}"


def _is_made(named: Named) -> bool:
    """Whether rows that cannot be read yet are made by the study itself."""
    return named.source.file is not None
