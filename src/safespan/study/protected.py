"""Protected training in a study: where a claim takes its inputs from, and what they are by content."""

from safespan.errors import ConfigError
from safespan.projection.protection import check_fields, check_protectable
from safespan.settings import StudyConfig, TrainingConfig
from safespan.settings.training import ProtectPrompts
from safespan.study.context import Study
from safespan.study.keys import input_hashes
from safespan.subspaces import find_hypothesis

_ROLES = ("base", "harmful", "safe")


def check_protected(config: StudyConfig) -> None:
    """Refuse a training whose protected claim has no training test, or needs what does not stand above it.

    Raises:
        ConfigError: which role, and what it lacks.
    """
    above: set[str] = {"prompts"} if config.activations else set()
    for role, source in config.models.items():
        if source.train and (protect := source.train.protect):
            field = f"models.{role}.train.protect"
            if given := [name for name in (*_ROLES, "prompts", "refusals") if getattr(protect, name) is not None]:
                raise ConfigError(
                    f"{field}.{given[0]}: a study takes it from its roles, activations and verdict; leave it out"
                )
            try:
                claim = check_protectable(protect.hypothesis, above)
                check_fields(claim, protect.fraction, protect.penalty, protect.keep)
            except ConfigError as error:
                raise ConfigError(
                    f"{field}: {error} (a study's models above {role}, and the prompts of its activations)"
                ) from None
        above.add(role)


def with_sources(study: Study, train: TrainingConfig) -> TrainingConfig:
    """The training with the models and prompts of the study that its protected claim needs."""
    if train.protect is None:
        return train
    needs, activations = find_hypothesis(train.protect.hypothesis).needs_of("training"), study.resolved.activations
    filled: dict[str, object] = {role: study.model_name(role) for role in _ROLES if role in needs}
    if "prompts" in needs and activations:
        filled["prompts"] = ProtectPrompts(useful=activations.useful, harmful=activations.harmful)
        filled["refusals"] = study.resolved.verdict.refusals if study.resolved.verdict else None
    if train.protect.seed is None:
        filled["seed"] = study.config.seed
    return train.model_copy(update={"protect": train.protect.model_copy(update=filled)})


def source_hashes(study: Study, train: TrainingConfig | None) -> dict[str, str]:
    """Role or field -> what the protected claim of a training needs, by content, for the key of its stage."""
    if train is None or train.protect is None:
        return {}
    needs, activations = find_hypothesis(train.protect.hypothesis).needs_of("training"), study.config.activations
    hashes = {role: study.weights_hash(role) for role in _ROLES if role in needs}
    if "prompts" in needs and activations:
        refusals = study.config.verdict.refusals if study.config.verdict else None
        hashes["prompts"] = f"{activations.useful} {activations.harmful} {refusals}"  # as the study says, in any folder
    return hashes | input_hashes(with_sources(study, train).protect)
