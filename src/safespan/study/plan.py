"""What a study would do, before it does it and without the network."""

import math
from pathlib import Path

from safespan.checkpoints import local_place, open_local
from safespan.data.task_files import has_documents_here
from safespan.models.folders import weight_files
from safespan.settings import StudyConfig, TrainingConfig
from safespan.settings.study import ModelSource
from safespan.study.context import Study
from safespan.study.inputs import Named, check_data, check_one_model, check_place
from safespan.study.needs import check_needs, left_out
from safespan.study.prompts import warn_of_prompts
from safespan.study.stages import stages
from safespan.study.texts import check_texts

_STORED_BYTES, _TRAINED_BYTES = 2, 4
"""Of a weight: checkpoints on the hub hold 16 bits, what is trained or converted here is written in 32."""


def plan(config: StudyConfig, out: Path) -> list[str]:
    """The models, data, stages, points and prompts of a study, the bytes to read, and what is not on this disk.

    Data, tokenizers and chat templates that are on this disk are read and checked, weights are not.

    Raises:
        ConfigError: a hypothesis needs what the study does not have, base and aligned are one model, or nothing can be
            run in the folder.
        DataError: rows or prompts on this disk cannot be used.
        CheckpointError: the folder, tokenizer or chat template of a model cannot be used.
    """
    check_place(out)
    check_needs(config)
    several = config.replicates > 1
    seeds = f"{config.seed} to {config.seed + config.replicates - 1}, each in {out / 'seeds'}; of each:"
    out = out / "seeds" / str(config.seed) if several else out
    study = Study(config, out)
    resolved = study.resolved
    check_one_model(resolved)
    made = [f"data: the study makes its own ({config.data}), in {out / 'data'}"] if config.data else []
    data = check_data(resolved, study.run)
    missing = [source.model for source in resolved.models.values() if source.model and not local_place(source.model)]
    missing += [named.source.name for named, rows in data if rows is None and not _is_made(named)]
    readable = [named for named, rows in data if rows is not None]
    warn_of_prompts(resolved, [named.field for named in readable])
    unread = check_texts(resolved, readable)
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
        f"data that could not be checked yet: {', '.join(dict.fromkeys(unchecked)) or 'none'}",
        "models whose tokenizer, chat template and room for the prompts could not be checked yet: "
        f"{', '.join(unread) or 'none'}",
        f"downloads, of what is not in the cache: {', '.join(dict.fromkeys(missing)) or 'none'}",
    ]


def _models(config: StudyConfig) -> list[str]:
    lines: list[str] = []
    sizes: dict[str, float] = {}
    trained: dict[str, float] = {}
    for role, source in config.models.items():
        if source.model is not None:
            sizes[role], trained[role] = _gigabytes(source)
            converted = " when it is converted, in the cache" if source.model.endswith(".gguf") else ""
            lines.append(f"model {role}: {source.model}, {_size(sizes[role])}{converted}")
        elif source.train is not None:
            sizes[role] = trained[role] = trained.get(str(source.start), 0.0)
            lines.append(f"model {role}: {source.start} trained for {_length(source.train)}, {_size(sizes[role])}")
    unknown = "" if all(sizes.values()) else ", without the models of unknown size"
    return [*lines, f"weights of all models together: {sum(sizes.values()):.1f} GB{unknown}"]


def _length(train: TrainingConfig) -> str:
    return f"{train.max_steps} steps" if train.max_steps else f"{train.epochs:g} epochs"


def _size(gigabytes: float) -> str:
    return f"{gigabytes:.1f} GB" if gigabytes else "size unknown"


def _gigabytes(source: ModelSource) -> tuple[float, float]:
    """Of the weights of a given model, and of a model that is trained from it; 0 if they are not known."""
    model, place = open_local(source.model or ""), local_place(source.model or "")
    if model is None or place is None:
        stored = source.size_gb or 0.0
        return stored, _TRAINED_BYTES / _STORED_BYTES * stored
    trained = _TRAINED_BYTES * sum(map(math.prod, model.shapes.values())) / 1e9
    if place.is_file():
        return trained, trained
    return sum(file.stat().st_size for file in weight_files(place)) / 1e9, trained


def _rows(named: Named, rows: int | None) -> str:
    """The rows that are used; those that are wanted, where they cannot be read yet."""
    wanted = rows or named.source.rows
    count = f", {wanted} rows" if wanted else ""
    return f"{named.source.name}{count}{', made by the run' if rows is None and _is_made(named) else ''}"


def _is_made(named: Named) -> bool:
    """Whether rows that cannot be read yet are made by the study itself."""
    return named.source.file is not None
