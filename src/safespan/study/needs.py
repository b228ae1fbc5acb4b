"""What hypotheses need, checked against a study before anything is trained."""

from safespan.errors import ConfigError
from safespan.projection import trial_points
from safespan.results.tables import TrialPoint
from safespan.settings import StudyConfig
from safespan.settings.names import tested_by_default
from safespan.settings.verdict import trial_finetunes
from safespan.study.protected import check_protected
from safespan.subspaces import find_hypothesis


def check_needs(config: StudyConfig) -> None:
    """Refuse a study that tests or protects a hypothesis whose needs it does not meet.

    Raises:
        ConfigError: which one, and what it needs.
    """
    check_protected(config)
    models, everything = _models(config), _models_and_prompts(config)
    for name in (config.projection and config.projection.subspaces) or ():
        hypothesis = find_hypothesis(name)
        if hypothesis.kind != "subspace":
            raise ConfigError(f"projection.subspaces: {name!r} edits updates and names no subspace: test it instead")
        if missing := hypothesis.missing(models):
            raise ConfigError(
                f"projection.subspaces: {name!r} needs {missing}, which the projection grid does not have: add what it "
                "needs to models, or test it in verdict.hypotheses"
            )
    for name in (config.verdict and config.verdict.hypotheses) or ():
        if missing := find_hypothesis(name).missing(everything):
            raise ConfigError(f"verdict.hypotheses: {name!r} needs {missing}: give that, or leave the hypothesis out")


def tested_hypotheses(config: StudyConfig) -> list[str]:
    """The hypotheses that get a verdict: those named, or all whose needs the models and prompts meet."""
    if config.verdict is None:
        return []
    if config.verdict.hypotheses is not None:
        return list(config.verdict.hypotheses)
    there = _models_and_prompts(config)
    return [name for name in tested_by_default() if not find_hypothesis(name).missing(there)]


def tested_points(config: StudyConfig) -> list[TrialPoint]:
    """Every set of weights that a verdict asks, hypothesis by hypothesis, with its random controls."""
    if config.verdict is None:
        return []
    finetunes, verdict = list(dict.fromkeys(trial_finetunes(config.models))), config.verdict
    return [
        point
        for name in tested_hypotheses(config)
        for point in trial_points(find_hypothesis(name), finetunes, verdict.fractions, verdict.controls)
    ]


def _models(config: StudyConfig) -> set[str]:
    return {"base", "safe", "harmful"} & config.models.keys()


def _models_and_prompts(config: StudyConfig) -> set[str]:
    """Prompts are those of the field activations."""
    return _models(config) | ({"prompts"} if config.activations else set())
