"""What each stage of a study does: reads artefacts, writes one table."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import combinations, islice
from pathlib import Path
from typing import Any

from safespan.activations import Resampling, capture_classes, overlap_by_layer, separation_by_layer
from safespan.checkpoints import Checkpoint
from safespan.config import ORGANISM, StudyConfig
from safespan.data import Prompt, read_prompts, rows_hash
from safespan.durable import scratch_folder
from safespan.errors import ConfigError
from safespan.evaluation import (
    Answered,
    Evaluator,
    Measures,
    ModelWorker,
    PointWorker,
    Repeat,
    judged_outcomes,
    rejudge,
)
from safespan.execution import Execution
from safespan.organism.english import write_english
from safespan.organism.family import plant, write_data
from safespan.overlap import update_overlap
from safespan.progress import counted, counting, step
from safespan.projection import Family, Point, PointWeights, sweep
from safespan.results import SCHEMAS, RunFolder, content_hash, read_jsonl, write_json, write_jsonl, write_table
from safespan.subspaces import Decompose
from safespan.training.sft import fine_tune


def make_data(config: StudyConfig, run: RunFolder) -> None:
    """Write the training rows, prompts and tasks that the study makes for itself."""
    if config.data is not None:
        (write_data if config.data == "organism" else write_english)(run.data, config.seed)


def make_model(config: StudyConfig, role: str, run: RunFolder, again: bool = False) -> None:
    """Train the model of one role from its start; `again`: a second time, with the next seed."""
    source, out, seed = config.models[role], _written(run, role, again), config.seed + again
    if source.start is None or source.train is None:
        raise ConfigError(f"models.{role} has no start to train from")
    if source.start == ORGANISM:
        with scratch_folder(run.root, "start") as scratch:
            start = scratch / ORGANISM
            plant(start, config.seed)
            fine_tune(start, out, source.train, seed)
    else:
        fine_tune(model_name(config, source.start, run), out, source.train, seed)


def model_name(config: StudyConfig, role: str, run: RunFolder, again: bool = False) -> str:
    """What the model of a role is called: as the study says, or where its training (or its second one) wrote it."""
    source = config.models[role]
    if source.model is not None:
        return source.model
    written = str(_written(run, role, again))
    adapter = source.train is not None and source.train.lora is not None and not source.train.lora.merge
    return f"{model_name(config, str(source.start), run)}+{written}" if adapter else written


def _written(run: RunFolder, role: str, again: bool) -> Path:
    return run.checkpoint(f"{role}-again" if again else role)


def evaluate_models(
    evaluator: Evaluator,
    checkpoints: Mapping[str, Checkpoint],
    run: RunFolder,
    key: str,
    execution: Execution,
) -> None:
    """Table `models`: every model as it is. One that was evaluated before under the same key is taken as it stands."""
    done = {role: found["outcomes"] for role in checkpoints if (found := answered_point(run, role, key))}
    roles = {checkpoint: role for role, checkpoint in checkpoints.items() if role not in done}
    with asking(evaluator, run, len(roles)) as scratch, counting("models") as tick:
        tick(len(done), len(checkpoints))
        make = partial(ModelWorker, evaluator.ask, evaluator.config.engine, scratch)
        for checkpoint, answered in execution.serve(make, list(roles), group=lambda checkpoint: roles[checkpoint]):
            done[roles[checkpoint]] = _keep(evaluator, answered, run, roles[checkpoint], key)
            tick(len(done), len(checkpoints))
    write_table(run.table("models"), [{"model": role, **done[role]} for role in checkpoints], SCHEMAS["models"])


def evaluate_points(
    config: StudyConfig,
    family: Family,
    evaluator: Evaluator,
    run: RunFolder,
    key: str,
    execution: Execution,
    decompose: Decompose,
) -> None:
    """Tables `projection` and `removed_energy`: every point of the grid, with its weights given to one model.

    A point that was evaluated before under the same key is taken as it stands, and so is one whose weights are those of
    another.
    """
    assert config.projection is not None
    rows, removed = sweep(family, config.projection, config.seed, decompose, execution.spread)
    points = [Point(*(row[field] for field in Point._fields)) for row in rows]
    before = {point.name: found for point in points if (found := answered_point(run, f"projection/{point.name}", key))}
    done = {name: found["outcomes"] for name, found in before.items()}
    known = {found["weights"]: name for name, found in before.items()}
    # Neighbours share a basis, and P grows from one to the next.
    groups = list(dict.fromkeys(map(_group, points)))
    waiting = sorted(
        (point for point in points if point.name not in done), key=lambda p: (groups.index(_group(p)), p.fraction)
    )
    with asking(evaluator, run, len(waiting)) as scratch, counting("points") as tick:
        tick(len(done), len(points))
        source = partial(PointWeights, family, config.projection, config.seed, scratch, decompose)
        make = partial(PointWorker, evaluator.ask, source, evaluator.config.engine, family.aligned, scratch, known)
        for point, answered in execution.serve(make, waiting, _group):
            name = f"projection/{point.name}"
            if isinstance(answered, Repeat):
                done[point.name] = _copy(run, f"projection/{answered.of}", name)
            else:
                done[point.name] = _keep(evaluator, answered, run, name, key)
            tick(len(done), len(points))
    write_table(run.table("removed_energy"), removed, SCHEMAS["removed_energy"])
    rows = [{**row, **done[point.name]} for row, point in zip(rows, points, strict=True)]
    write_table(run.table("projection"), rows, SCHEMAS["projection"])


def overlap(
    config: StudyConfig,
    family: Family,
    again: Checkpoint | None,
    run: RunFolder,
    execution: Execution,
    decompose: Decompose,
) -> None:
    """Tables `overlap`, every pair of updates per tensor and per layer, and `spectra`, every update per tensor.

    Overlap has the update of the ceiling's role beside that of `again`, the same recipe under another seed: no two
    updates can be expected to overlap more. Spectra are of whole layers where the study has no tensors.
    """
    updates = {"alignment": (family.base, family.aligned)}
    if family.safe:
        updates["safety"] = (family.aligned, family.safe)
    updates |= {label: (family.aligned, end) for label, end in family.finetuned.items()}
    assert config.overlap is not None
    own, pairs = set(updates), list(combinations(updates, 2))
    if again:
        label = {"aligned": "alignment", "safe": "safety"}.get(str(config.overlap.ceiling), str(config.overlap.ceiling))
        updates[f"{label} again"] = (updates[label][0], again)
        pairs.append((label, f"{label} again"))
    rows: list[dict[str, Any]] = []
    spectra: list[dict[str, Any]] = []
    for granularity in config.overlap.granularities:
        overlaps, found = update_overlap(
            updates, granularity, config.overlap.energies, decompose, execution.spread, pairs
        )
        rows += overlaps
        if granularity == "tensor" or not spectra:
            spectra = [row for row in found if row["update"] in own]
    write_table(run.table("overlap"), rows, SCHEMAS["overlap"])
    write_table(run.table("spectra"), spectra, SCHEMAS["spectra"])


def activations(config: StudyConfig, checkpoints: Mapping[str, Checkpoint], run: RunFolder) -> None:
    """Tables `activations` and `separation`: useful against harmful prompts, at each layer of each model.

    Overlap raw and centred, and whether one direction tells the classes apart, from one pass over the prompts.
    """
    settings = config.activations
    if settings is None:
        raise ConfigError("this study has no field activations")
    prompts = {"useful": read_prompts(settings.useful), "harmful": read_prompts(settings.harmful)}
    record_prompts(run, {f"activations {label}": asked for label, asked in prompts.items()})
    texts = {label: [prompt.prompt for prompt in asked] for label, asked in prompts.items()}
    halves_seed = config.seed if settings.halves else None
    resampling = Resampling(settings.permutations, settings.bootstraps, config.seed)
    overlaps: list[dict[str, Any]] = []
    separations: list[dict[str, Any]] = []
    for role in counted("models", settings.models, len(settings.models)):
        classes = capture_classes(
            checkpoints[role], (texts["useful"], texts["harmful"]), settings.layers, settings.batch_size
        )
        found = overlap_by_layer(*classes, settings.energies, halves_seed=halves_seed, resampling=resampling)
        overlaps += [{"model": role, **row} for row in found]
        separations += [{"model": role, **row} for row in separation_by_layer(*classes, config.seed)]
    write_table(run.table("activations"), overlaps, SCHEMAS["activations"])
    write_table(run.table("separation"), separations, SCHEMAS["separation"])


def _group(point: Point) -> tuple[str, str]:
    """Points that share a basis and its coefficients."""
    return point.finetune, point.subspace


@contextmanager
def asking(evaluator: Evaluator | Measures, run: RunFolder, number: int) -> Iterator[Path]:
    """A scratch folder for workers, and everything that is asked loaded before they begin, if any will."""
    if number:
        evaluator.prepare()
        record_prompts(run, evaluator.prompts)
    with scratch_folder(run.root, "scratch") as scratch:
        yield scratch


def record_prompts(run: RunFolder, prompts: Mapping[str, Sequence[Prompt]]) -> None:
    """Note how many prompts of each kind were asked, and their hash, for the manifest."""
    known = json.loads(run.prompts.read_text(encoding="utf-8")) if run.prompts.exists() else {}
    found = {
        kind: {"rows": len(asked), "sha256": rows_hash([asdict(p) for p in asked])} for kind, asked in prompts.items()
    }
    write_json(run.prompts, {**known, **found})


def _keep(evaluator: Evaluator, answered: Answered, run: RunFolder, name: str, key: str) -> dict[str, Any]:
    """Judge what a model or point said, and keep it and its outcomes."""
    outcomes, said = evaluator.score(answered.said)
    write_jsonl(run.generations(name), said)
    kept = {
        "key": key,
        "outcomes": outcomes,
        "weights": answered.weights,
        "seconds": answered.seconds,
        "said": content_hash(run.generations(name)),
    }
    write_json(point_file(run, name), kept)
    return outcomes


def ask_judge_again(evaluator: Evaluator, run: RunFolder, key: str, table: Path) -> None:
    """Have the responses judged whose judgement failed in an earlier run, as when the judge's server was out.

    What the judge did reply then is kept, and not asked for again. Where a judgement has come to be, the table is
    removed, so that it is made anew of the points.

    Args:
        evaluator: of the study.
        run: its folder.
        key: of the models or points that count.
        table: that they are in.
    """
    failed = [name for name in _points(run) if (found := answered_point(run, name, key)) and _unjudged(found)]
    if not failed:
        return
    before = {name: read_jsonl(run.generations(name)) for name in failed}
    with step(f"judgements of {table.stem} that failed before"):
        try:
            assert evaluator.judge is not None
            judged, _ = rejudge([row for said in before.values() for row in said], evaluator.judge, str(run.root))
        except ConfigError as error:
            logging.getLogger(__name__).warning(str(error))
            return
    rest = iter(judged)
    for name, said in before.items():
        after = list(islice(rest, len(said)))
        if after != said:
            table.unlink(missing_ok=True)
            write_jsonl(run.generations(name), after)
            found = json.loads(point_file(run, name).read_text(encoding="utf-8"))
            found |= {
                "said": content_hash(run.generations(name)),
                "outcomes": {**found["outcomes"], **judged_outcomes(after)},
            }
            write_json(point_file(run, name), found)


def _unjudged(found: Mapping[str, Any]) -> bool:
    return bool(found["outcomes"]["n_judge_failed"])


def _points(run: RunFolder) -> list[str]:
    """Models and points of which something is kept."""
    place = _place(run)
    return [str(file.relative_to(place).with_suffix("")) for file in sorted(place.rglob("*.json"))]


def _copy(run: RunFolder, of: str, name: str) -> dict[str, Any]:
    """Keep for one point what another said whose weights are the same."""
    write_jsonl(run.generations(name), read_jsonl(run.generations(of)))
    found: dict[str, Any] = json.loads(point_file(run, of).read_text(encoding="utf-8"))
    write_json(point_file(run, name), {**found, "seconds": {}, "same_weights_as": of})
    return dict(found["outcomes"])


def point_file(run: RunFolder, name: str) -> Path:
    """Where what was found of one model or point is kept."""
    return _place(run) / f"{name}.json"


def _place(run: RunFolder) -> Path:
    return run.root / "results" / "points"


def finished_point(run: RunFolder, name: str, key: str) -> dict[str, Any] | None:
    """What an earlier run kept of a model or point under the same key."""
    try:
        found: dict[str, Any] = json.loads(point_file(run, name).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if found["key"] == key else None


def answered_point(run: RunFolder, name: str, key: str) -> dict[str, Any] | None:
    """The same, if what the model said stands too: another study may have written over it and not come to its end."""
    found, said = finished_point(run, name, key), content_hash(run.generations(name))
    # An earlier version noted no hash.
    return found if found and said and found.get("said", said) == said else None
