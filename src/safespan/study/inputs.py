"""The rows and prompts that a study names: read and checked before anything is done, where they are on this disk."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from safespan.checkpoints import local_place
from safespan.data import read_prompts
from safespan.data.hub import NotCachedError, offline
from safespan.errors import ConfigError, DataError
from safespan.files.disk import check_writable
from safespan.results import RunFolder
from safespan.results.run_folder import check_not_in_run
from safespan.settings import PromptSource, StudyConfig
from safespan.settings.base import named_inputs
from safespan.settings.data import TrainingData
from safespan.settings.model_names import split_adapter
from safespan.study.needs import needed_updates
from safespan.training.mixture import contaminating, read_examples


@dataclass(frozen=True)
class Named:
    """Rows or prompts that a study names.

    Attributes:
        field: that names them.
        what: they are for.
        source: of them.
        targets: how many of the first prompts need a target.
    """

    field: str
    what: str
    source: TrainingData | PromptSource
    targets: int = 0


def check_place(out: Path) -> None:
    """Refuse a folder that no study can be run in.

    Raises:
        ConfigError: why not.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file: give a folder to run in")
    if any((out / name).exists() for name in ("config.json", "adapter_config.json")):
        raise ConfigError(f"{out} is the folder of a model: give another folder to run in")
    check_not_in_run(out)
    check_writable(out, inside=True)


def check_one_model(config: StudyConfig) -> None:
    """Refuse models that are aligned itself by their names, where their difference is needed; no weight is read.

    Raises:
        ConfigError: which model.
    """
    aligned = config.models["aligned"].model
    for role in sorted(needed_updates(config)):
        model = config.models[role].model
        if aligned and model and _is_one(model, aligned):
            update, other = (
                ("alignment update", "the model before its alignment")
                if role == "base"
                else ("update", "a model that was tuned from aligned")
            )
            raise ConfigError(
                f"models.{role} and models.aligned have the same weights, {aligned}: there is no {update}; give as "
                f"models.{role} {other}"
            )


def _is_one(one: str, other: str) -> bool:
    """Whether two names are of the same model: the same text, or the same place on this disk."""
    if one == other:
        return True
    places = [local_place(name) for name in (one, other) if not split_adapter(name)]
    return len(places) == 2 and None not in places and len({place.resolve() for place in places if place}) == 1


def named_data(config: StudyConfig) -> Iterator[Named]:
    """All rows and prompts of a study."""
    for role, model in config.models.items():
        if model.train is not None:
            yield Named(f"models.{role}.train.data", f"rows of {role}", model.train.data)
            if model.train.contaminate_with is not None:
                percent = f"{model.train.contamination_percent:g} %"
                what = f"rows mixed into {role}, {percent} of the number of its other rows"
                yield Named(f"models.{role}.train.contaminate_with", what, model.train.contaminate_with)
    evaluation, verdict = config.evaluation, config.verdict
    if harm := evaluation.harmfulness:
        asked = min(harm.limit or verdict.prompts, verdict.prompts) if verdict else 0
        yield Named("evaluation.harmfulness.prompts", "harmful prompts", harm.prompts, asked)
    if evaluation.over_refusal:
        yield Named("evaluation.over_refusal.prompts", "benign prompts", evaluation.over_refusal.prompts)
    if config.activations:
        for kind in ("useful", "harmful"):
            source = getattr(config.activations, kind)
            yield Named(f"activations.{kind}", f"{kind} prompts for activations", source)
    if verdict and verdict.useful:
        yield Named("verdict.useful", "useful questions of the verdict", verdict.useful, verdict.prompts)


def check_data(config: StudyConfig, run: RunFolder) -> list[tuple[Named, int | None]]:
    """Read all rows and prompts of a study as its stages will, without the network.

    Args:
        config: resolved.
        run: what the study makes for itself is in this folder.

    Returns:
        What is named, and how many rows or prompts of it are used. None: it cannot be read yet, because the study makes
        it, or because it is a data set of the hub that is not in the cache.

    Raises:
        DataError: which field names rows, prompts or a task that cannot be used, and which row is at fault.
    """
    _check_tasks(config, run)
    read: dict[str, int | None] = {}
    counts = []
    for named in named_data(config):
        key = f"{named.source!r} {named.targets}"  # several models may be trained on the same rows
        if key not in read:
            read[key] = _count(config, named, run)
        counts.append((named, read[key]))
    known = {named.field: count for named, count in counts if count is not None}
    for role, model in config.models.items():
        rows, pool = (known.get(f"models.{role}.train.{field}") for field in ("data", "contaminate_with"))
        if model.train and rows and pool:
            contaminating(model.train, rows, pool)
    return counts


def _count(config: StudyConfig, named: Named, run: RunFolder) -> int | None:
    source = named.source
    if config.data is not None and source.file and _is_in(Path(source.file), run.data):
        return None
    try:
        with offline(source):
            if isinstance(source, TrainingData):
                return len(read_examples(source))
            prompts = read_prompts(source)
    except NotCachedError:
        return None
    except DataError as error:
        raise DataError(f"{named.field}: {error}") from error
    for number, prompt in enumerate(prompts[: named.targets], start=1):
        if prompt.target is None:
            raise DataError(
                f"{named.field}: {source.name}: a verdict needs answers, and prompt {number} has none: give "
                "target_field, or a file with a field target"
            )
    return len(prompts)


def _check_tasks(config: StudyConfig, run: RunFolder) -> None:
    for field, kind, text in named_inputs(config.evaluation, "evaluation."):
        is_file = kind == "task" and text.endswith((".yaml", ".yml"))
        if is_file and not os.path.isfile(text) and not (config.data and _is_in(Path(text), run.data)):
            raise DataError(f"{field}: {text}: no such file; give one that is there")


def _is_in(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
