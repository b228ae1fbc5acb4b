"""Disk and memory that a study needs."""

from dataclasses import dataclass

from safespan.checkpoints import local_place
from safespan.settings import StudyConfig
from safespan.study.costs.work import Shape

_TRAINING, _LORA = 16, 4
"""Bytes of a weight in training: weight, gradient and AdamW's two moments in fp32; with a LoRA the weight alone."""

_POINT = 12
"""Bytes of a weight that the files of one set of points take: `projection.points.PointWeights`."""

_LIBRARIES = 1_000_000_000
"""Bytes of a process for what it imports."""


@dataclass(frozen=True)
class Room:
    """Bytes that a study needs; at most, and without activations.

    Attributes:
        written: that stay in the run folder.
        beside: that are there while it runs.
        downloads: of models that are not on this disk, where `size_gb` says; None: not known.
        memory: of all processes; of a GPU without the libraries.
        gpu: whether `memory` is that of a GPU.
    """

    written: int
    beside: int
    downloads: int | None
    memory: int | None
    gpu: bool


def room_of(config: StudyConfig, shape: Shape | None, written: int, workers: int, tokens: int, gpu: bool) -> Room:
    """The room that a study needs.

    Args:
        config: the study.
        shape: of its models.
        written: bytes that stay.
        workers: processes.
        tokens: of a prompt and its answer, the most.
        gpu: whether models are on one.
    """
    missing = [source for source in config.models.values() if source.model and not local_place(source.model)]
    sizes = [source.size_gb for source in missing]
    known = [size for size in sizes if size is not None]
    downloads = round(sum(known) * 1e9) if len(known) == len(sizes) else None
    if shape is None:
        return Room(written, 0, downloads, None, gpu)
    points = config.projection is not None or config.verdict is not None
    beside = _POINT * shape.parameters * workers if points else 0
    return Room(written, beside, downloads, _memory(config, shape, workers, tokens, gpu), gpu)


def _memory(config: StudyConfig, shape: Shape, workers: int, tokens: int, gpu: bool) -> int:
    trainings = [source.train for source in config.models.values() if source.train]
    training = max((_LORA if train.lora else _TRAINING for train in trainings), default=0) * shape.parameters
    trained = config.models["aligned"].train is not None
    stored = 4 if trained else shape.stored
    width = {"float32": 4, "bfloat16": 2, "float16": 2}.get(config.evaluation.engine.dtype, stored)
    # The model, a copy of its own weights, one tensor's work, and the keys and values of a batch.
    answers = 2 * width * shape.parameters + width * shape.cached * tokens * config.evaluation.engine.batch_size
    most = max(training, answers)
    return most * workers if gpu else (most + _LIBRARIES) * workers
