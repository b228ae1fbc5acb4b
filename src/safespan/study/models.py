"""The data that a study makes for itself, and the models that it trains."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from safespan.errors import ConfigError
from safespan.files.scratch import scratch_folder
from safespan.settings.study import ORGANISM
from safespan.settings.training import TrainingConfig
from safespan.study.context import Study
from safespan.study.protected import with_sources


def make_data(study: Study) -> None:
    """Write the training rows, prompts and tasks that the study makes for itself."""
    from safespan.organism.english import write_english
    from safespan.organism.family import write_data

    if study.config.data is not None:
        (write_data if study.config.data == "organism" else write_english)(study.run.data, study.config.seed)


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """A training of one model from another, for any process.

    Attributes:
        name: in messages.
        start: name of the model to start from.
        out: the folder to make.
    """

    name: str
    start: str
    out: Path
    config: TrainingConfig
    seed: int


class Trainer:
    """Trains models."""

    def __call__(self, job: TrainingJob) -> float:
        """Train a model; the seconds that it took."""
        from safespan.activations import capture_for_hypotheses
        from safespan.training.sft import fine_tune

        begun = time.perf_counter()
        fine_tune(job.start, job.out, job.config, job.seed, capture=capture_for_hypotheses)
        return time.perf_counter() - begun

    def close(self) -> None:
        """Nothing to close."""


def training_job(study: Study, role: str, again: bool = False) -> TrainingJob:
    """The training of the model of one role; `again`: a second time, with the next seed."""
    source, name = study.resolved.models[role], f"model {role} again" if again else f"model {role}"
    if source.start is None or source.train is None:
        raise ConfigError(f"models.{role} has no start to train from")
    start = source.start if source.start == ORGANISM else study.model_name(source.start)
    config = with_sources(study, source.train)
    return TrainingJob(name, start, study.trained_folder(role, again), config, study.config.seed + again)


def train_model(study: Study, job: TrainingJob) -> None:
    """Train a model in this process."""
    from safespan.organism.family import plant

    if job.start != ORGANISM:
        Trainer()(job)
        return
    with scratch_folder(study.run.root, "start") as scratch:
        start = scratch / ORGANISM
        plant(start, study.config.seed)
        Trainer()(replace(job, start=str(start)))
