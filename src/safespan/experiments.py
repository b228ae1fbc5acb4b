"""What each stage of a study does: reads artefacts, writes one table."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from safespan.activations import overlap_by_layer
from safespan.checkpoints import Checkpoint
from safespan.config import ORGANISM, StudyConfig
from safespan.data import Prompt, read_prompts, rows_hash
from safespan.errors import ConfigError
from safespan.evaluation import Evaluator, ModelUnderTest, model_of, models_with
from safespan.organism.english import write_english
from safespan.organism.family import plant, write_data
from safespan.overlap import update_overlap
from safespan.pool import side_by_side
from safespan.projection import Family, References, TensorProjection, references, sweep, tensor_projections
from safespan.results import SCHEMAS, RunFolder, write_json, write_jsonl, write_table
from safespan.stages import Tick
from safespan.training.sft import fine_tune
from safespan.updates import update


def make_data(config: StudyConfig, run: RunFolder) -> None:
    """Write the training rows, prompts and tasks that the study makes for itself."""
    if config.data is not None:
        (write_data if config.data == "organism" else write_english)(run.data, config.seed)


def make_model(config: StudyConfig, role: str, run: RunFolder, tick: Tick) -> None:
    """Train the model of one role from its start."""
    source = config.models[role]
    if source.start is None or source.train is None:
        raise ConfigError(f"models.{role} has no start to train from")
    if source.start == ORGANISM:
        with TemporaryDirectory() as scratch:
            start = Path(scratch) / ORGANISM
            plant(start, config.seed)
            fine_tune(start, run.checkpoint(role), source.train, config.seed, tick)
    else:
        fine_tune(model_name(config, source.start, run), run.checkpoint(role), source.train, config.seed, tick)


def model_name(config: StudyConfig, role: str, run: RunFolder) -> str:
    """What the model of a role is called: as the study says, or where its training wrote it."""
    source = config.models[role]
    if source.model is not None:
        return source.model
    written = str(run.checkpoint(role))
    adapter = source.train is not None and source.train.lora is not None and not source.train.lora.merge
    return f"{model_name(config, str(source.start), run)}+{written}" if adapter else written


def evaluate_models(
    evaluator: Callable[[], Evaluator], checkpoints: Mapping[str, Checkpoint], run: RunFolder, key: str, tick: Tick
) -> None:
    """Table `models`: every model as it is. One that was evaluated before under the same key is taken as it stands.

    The evaluator is built once, when first needed, and serves every stage.
    """
    done: list[dict[str, Any]] = []
    for role, checkpoint in checkpoints.items():
        tick(len(done), len(checkpoints))
        outcomes = _finished(run, role, key)
        if outcomes is None:
            with model_of(evaluator().config.engine, checkpoint, run.root) as model:
                outcomes = _evaluate(evaluator(), model, run, role, key)
        done.append({"model": role, **outcomes})
    write_table(run.table("models"), done, SCHEMAS["models"])


def evaluate_points(
    config: StudyConfig, family: Family, evaluator: Callable[[], Evaluator], run: RunFolder, key: str, tick: Tick
) -> None:
    """Tables `projection` and `removed_energy`: every point of the grid, with its weights given to one model.

    A point that was evaluated before under the same key is taken as it stands.
    """
    subspaces = family.subspaces(config.projection.subspaces)
    names = family.names()
    found = side_by_side(lambda name: references(family, name, subspaces, config.projection.side), names)
    decomposed = dict(zip(names, found, strict=True))
    rows, removed = sweep(family, config.projection, config.seed, decomposed)
    points = {point_name(row): row for row in rows}
    done = {name: outcomes for name in points if (outcomes := _finished(run, f"projection/{name}", key)) is not None}
    if len(done) < len(points):
        waiting = {name: row for name, row in points.items() if name not in done}
        weights = _projected_weights(family, waiting, decomposed, config.seed)
        tick(len(done), len(points))
        for name, model in models_with(config.evaluation.engine, family.aligned, weights, run.root):
            done[name] = _evaluate(evaluator(), model, run, f"projection/{name}", key)
            tick(len(done), len(points))
    write_table(run.table("removed_energy"), removed, SCHEMAS["removed_energy"])
    write_table(run.table("projection"), [{**row, **done[n]} for n, row in points.items()], SCHEMAS["projection"])


def overlap(config: StudyConfig, family: Family, run: RunFolder, tick: Tick) -> None:
    """Table `overlap`: every pair of updates, per tensor and per layer."""
    updates = {"alignment": (family.base, family.aligned)}
    if family.safe:
        updates["safety"] = (family.aligned, family.safe)
    updates |= {label: (family.aligned, end) for label, end in family.finetuned.items()}
    rows: list[dict[str, Any]] = []
    for number, granularity in enumerate(config.overlap.granularities):
        tick(number, len(config.overlap.granularities))
        rows += update_overlap(updates, granularity, config.overlap.energies)
    write_table(run.table("overlap"), rows, SCHEMAS["overlap"])


def activations(config: StudyConfig, checkpoints: Mapping[str, Checkpoint], run: RunFolder, tick: Tick) -> None:
    """Table `activations`: useful against harmful prompts, at each layer of each model, raw and centred."""
    settings = config.activations
    if settings is None:
        raise ConfigError("this study has no field activations")
    prompts = {"useful": read_prompts(settings.useful), "harmful": read_prompts(settings.harmful)}
    record_prompts(run, {f"activations {label}": asked for label, asked in prompts.items()})
    texts = {label: [prompt.prompt for prompt in asked] for label, asked in prompts.items()}
    rows: list[dict[str, Any]] = []
    for number, role in enumerate(settings.models):
        tick(number, len(settings.models))
        found = overlap_by_layer(
            checkpoints[role],
            (texts["useful"], texts["harmful"]),
            settings.layers,
            settings.energies,
            settings.batch_size,
            halves_seed=config.seed if settings.halves else None,
        )
        rows += [{"model": role, **row} for row in found]
    write_table(run.table("activations"), rows, SCHEMAS["activations"])


def point_name(row: Mapping[str, Any]) -> str:
    """Name of one point of the grid in file names."""
    return f"{row['finetune']}-{row['subspace']}-{row['method']}-{row['fraction']:g}"


def _projected_weights(
    family: Family, points: Mapping[str, Mapping[str, Any]], decomposed: Mapping[str, References], seed: int
) -> Iterator[tuple[str, Iterator[tuple[str, torch.Tensor]]]]:
    """(point, its weights); the coefficients of one fine-tune on one subspace serve all their points."""
    aligned = {name: family.aligned.load(name).float() for name in decomposed}
    for (label, subspace), pair in groupby(points.items(), key=lambda p: (p[1]["finetune"], p[1]["subspace"])):
        projections: dict[str, TensorProjection] = {}
        for name, tensor_references in decomposed.items():
            deltas = {label: update(name, family.aligned, family.finetuned[label])}
            [(_, _, projections[name])] = tensor_projections(deltas, name, tensor_references, (subspace,), seed)
        for point, row in pair:
            applied = partial(TensorProjection.applied, method=row["method"], fraction=row["fraction"])
            yield point, ((name, aligned[name] + applied(p)) for name, p in projections.items())


def record_prompts(run: RunFolder, prompts: Mapping[str, Sequence[Prompt]]) -> None:
    """Note how many prompts of each kind were asked, and their hash, for the manifest."""
    known = json.loads(run.prompts.read_text(encoding="utf-8")) if run.prompts.exists() else {}
    found = {
        kind: {"rows": len(asked), "sha256": rows_hash([asdict(p) for p in asked])} for kind, asked in prompts.items()
    }
    write_json(run.prompts, {**known, **found})


def _evaluate(evaluator: Evaluator, model: ModelUnderTest, run: RunFolder, name: str, key: str) -> dict[str, Any]:
    """Evaluate one model or point, and keep what it said and its outcomes."""
    outcomes, said = evaluator.evaluate(model)
    write_jsonl(run.generations(name), said)
    write_json(_point_file(run, name), {"key": key, "outcomes": outcomes})
    return outcomes


def _point_file(run: RunFolder, name: str) -> Path:
    return run.root / "results" / "points" / f"{name}.json"


def _finished(run: RunFolder, name: str, key: str) -> dict[str, Any] | None:
    """Outcomes of a model or point that an earlier run finished under the same key."""
    path = _point_file(run, name)
    if not path.exists():
        return None
    point = json.loads(path.read_text(encoding="utf-8"))
    return point["outcomes"] if point["key"] == key else None
