"""The data that a study makes for itself, and the models that it trains."""

from safespan.errors import ConfigError
from safespan.files.scratch import scratch_folder
from safespan.settings.study import ORGANISM
from safespan.study.context import Study
from safespan.study.protected import with_sources


def make_data(study: Study) -> None:
    """Write the training rows, prompts and tasks that the study makes for itself."""
    from safespan.organism.english import write_english
    from safespan.organism.family import write_data

    if study.config.data is not None:
        (write_data if study.config.data == "organism" else write_english)(study.run.data, study.config.seed)


def train_model(study: Study, role: str, again: bool = False) -> None:
    """Train the model of one role from its start; `again`: a second time, with the next seed."""
    from safespan.activations import capture_for_hypotheses
    from safespan.organism.family import plant
    from safespan.training.sft import fine_tune

    source, out, seed = study.resolved.models[role], study.trained_folder(role, again), study.config.seed
    if source.start is None or source.train is None:
        raise ConfigError(f"models.{role} has no start to train from")
    train = with_sources(study, source.train)
    if source.start != ORGANISM:
        fine_tune(study.model_name(source.start), out, train, seed + again, capture=capture_for_hypotheses)
        return
    with scratch_folder(study.run.root, "start") as scratch:
        start = scratch / ORGANISM
        plant(start, seed)
        fine_tune(start, out, train, seed + again, capture=capture_for_hypotheses)
