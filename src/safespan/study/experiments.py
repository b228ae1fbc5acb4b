"""What the stages of the experiments do: each reads models, and writes tables."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from safespan.data import Prompt
from safespan.data.classes import read_classes
from safespan.errors import ConfigError
from safespan.progress import track
from safespan.projection import PointWeights, sweep
from safespan.report.verdict import role_lines
from safespan.results.table_files import write_table
from safespan.results.tables import (
    ActivationRow,
    GridPoint,
    ModelFilterRow,
    ModelRow,
    OverlapRow,
    ProjectionFilterRow,
    ProjectionRow,
    RemovedEnergyRow,
    SeparationRow,
    SpectrumRow,
)
from safespan.settings.analysis import ActivationsConfig
from safespan.study.context import Study
from safespan.study.needs import needs_base_activations
from safespan.study.points import PointStore, answer_jobs, record_prompts

_log = logging.getLogger(__name__)


def evaluate_models(study: Study, key: str) -> None:
    """Tables `models` and `models_by_filter`: every model as it is. Warns of outcomes that speak against a role."""
    from safespan.evaluation import ModelJob, ModelWorker, Scores

    evaluator = study.evaluator
    for line in study.departures:
        _log.warning(line)
    jobs = [ModelJob(role, checkpoint) for role, checkpoint in study.checkpoints.items()]

    def worker(scratch: Path, known: Mapping[str, str]) -> partial[ModelWorker]:
        return partial(ModelWorker, evaluator.ask, study.prompting, scratch)

    store = PointStore(study.run, "", key, Scores)
    records = answer_jobs(store, evaluator, jobs, worker, study.execution, lambda job: job.name, "models")
    scores = {job.name: records[job.name].scored for job in jobs}
    by_filter = [
        ModelFilterRow(role, name, value)
        for role, score in scores.items()
        for name, value in score.utility_by_filter.items()
    ]
    write_table(study.run.table("models_by_filter"), ModelFilterRow, by_filter)
    rows = [ModelRow(model=role, **vars(score.outcomes)) for role, score in scores.items()]
    for line in role_lines(write_table(study.run.table("models"), ModelRow, rows)):
        _log.warning(line)


def evaluate_projections(study: Study, key: str) -> None:
    """Tables of every point of the grid, with its weights given to one model: outcomes, energies removed.

    A point whose weights are those of another takes over its answers.
    """
    from safespan.evaluation import PointWorker, Scores

    grid, evaluator, family = study.resolved.projection, study.evaluator, study.family
    assert grid is not None
    rows, removed = sweep(family, grid, study.config.seed, study.decompose, study.execution.map)
    # Neighbours share a basis, and P grows from one to the next.
    groups = list(dict.fromkeys(map(_shared_basis, rows)))
    jobs = sorted(rows, key=lambda point: (groups.index(_shared_basis(point)), point.fraction))

    def worker(scratch: Path, known: Mapping[str, str]) -> partial[PointWorker]:
        weights = partial(PointWeights, family, grid, scratch, study.decompose)
        return partial(PointWorker, evaluator.ask, weights, study.prompting, family.aligned, scratch, known)

    store = PointStore(study.run, "projection", key, Scores)
    records = answer_jobs(store, evaluator, jobs, worker, study.execution, _shared_basis, "points")
    scored = [(row, records[row.name].scored) for row in rows]
    by_filter = [
        ProjectionFilterRow(row.finetune, row.subspace, row.method, row.fraction, row.seed, name, value)
        for row, score in scored
        for name, value in score.utility_by_filter.items()
    ]
    write_table(study.run.table("projection_by_filter"), ProjectionFilterRow, by_filter)
    write_table(study.run.table("removed_energy"), RemovedEnergyRow, removed)
    outcomes = [ProjectionRow(**vars(row), **vars(score.outcomes)) for row, score in scored]
    write_table(study.run.table("projection"), ProjectionRow, outcomes)


def measure_update_overlap(study: Study) -> None:
    """Tables `overlap`, every pair of updates per tensor and per layer, and `spectra`, every update per tensor.

    Overlap has the update of the ceiling's role beside that of the same recipe under another seed: no two updates can
    be expected to overlap more. Spectra are of whole layers where the study has no tensors.
    """
    from safespan.overlap import update_overlap

    family, settings = study.family, study.config.overlap
    assert settings is not None
    assert family.base is not None
    updates = {"alignment": (family.base, family.aligned)}
    if family.safe:
        updates["safety"] = (family.aligned, family.safe)
    updates |= {label: (family.aligned, end) for label, end in family.finetuned.items()}
    again = {}
    if settings.ceiling:
        label = {"aligned": "alignment", "safe": "safety"}.get(settings.ceiling, settings.ceiling)
        again = {label: (updates[label][0], study.checkpoint(settings.ceiling, again=True))}
    rows: list[OverlapRow] = []
    spectra: list[SpectrumRow] = []
    for granularity in settings.granularities:
        overlaps, spectrum = update_overlap(
            updates, granularity, settings.energies, study.decompose, study.execution.map, again
        )
        rows += overlaps
        if granularity == "tensor" or not spectra:
            spectra = spectrum
    write_table(study.run.table("overlap"), OverlapRow, rows)
    write_table(study.run.table("spectra"), SpectrumRow, spectra)


def measure_activations(study: Study) -> None:
    """Tables `activations` and `separation`: useful against harmful prompts, at each layer of each model.

    Overlap raw and centred, and whether one direction tells the classes apart, from one pass over the prompts.
    """
    from safespan.activations import Resampling, capture_classes, overlap_by_layer, separation_by_layer

    settings, seed = _activations(study), study.config.seed
    prompts = _prompts(settings)
    record_prompts(study.run, {f"activations {label}": asked for label, asked in prompts.items()})
    texts = {label: [prompt.prompt for prompt in asked] for label, asked in prompts.items()}
    resampling = Resampling(settings.permutations, settings.bootstraps, seed)
    overlaps: list[ActivationRow] = []
    separations: list[SeparationRow] = []
    for role in track("models", settings.models, len(settings.models)):
        both = texts["useful"], texts["harmful"]
        day = settings.template_date
        classes = capture_classes(study.checkpoint(role), both, settings.layers, settings.batch_size, day)
        halves_seed = seed if settings.halves else None
        rows = overlap_by_layer(*classes, settings.energies, halves_seed=halves_seed, resampling=resampling)
        overlaps += [ActivationRow(model=role, **vars(row)) for row in rows]
        separations += [SeparationRow(model=role, **vars(row)) for row in separation_by_layer(*classes, seed)]
    write_table(study.run.table("activations"), ActivationRow, overlaps)
    write_table(study.run.table("separation"), SeparationRow, separations)


def capture_activations(study: Study) -> None:
    """Activations of the aligned model on the study's useful and harmful prompts, for the hypotheses that need them.

    Those of base too, where a hypothesis reads them.
    """
    from safespan.activations import capture_for_hypotheses

    settings, verdict = _activations(study), study.config.verdict
    assert verdict is not None
    texts = {kind: [prompt.prompt for prompt in asked] for kind, asked in _prompts(settings).items()}
    aligned, asked = study.checkpoint("aligned"), (settings.batch_size, verdict.refusals, settings.template_date)
    base = study.checkpoint("base") if needs_base_activations(study.config) else None
    capture_for_hypotheses(aligned, texts, study.run.captured, *asked, base)


def _activations(study: Study) -> ActivationsConfig:
    if study.resolved.activations is None:
        raise ConfigError("this study has no field activations")
    return study.resolved.activations


def _prompts(settings: ActivationsConfig) -> dict[str, list[Prompt]]:
    return read_classes(settings.useful, settings.harmful)


def _shared_basis(point: GridPoint) -> tuple[str, str]:
    """Points of one fine-tune and subspace share a basis and its coefficients."""
    return point.finetune, point.subspace
