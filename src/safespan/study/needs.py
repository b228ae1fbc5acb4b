"""What hypotheses need, checked against a study before anything is trained."""

from safespan.errors import ConfigError
from safespan.settings import StudyConfig, VerdictConfig
from safespan.settings.names import SUBSPACES, TESTS, Test, tested_by_default
from safespan.settings.verdict import chosen_tests, update_finetunes
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
        if why := hypothesis.outside_grid:
            raise ConfigError(f"projection.subspaces: {name!r} {why}: test it instead")
        if missing := hypothesis.missing(models):
            raise ConfigError(
                f"projection.subspaces: {name!r} needs {missing}, which the projection grid does not have: add what it "
                "needs to models, or test it in verdict.hypotheses"
            )
    if config.verdict is not None:
        _check_tested(config, config.verdict, everything)


def _check_tested(config: StudyConfig, verdict: VerdictConfig, present: set[str]) -> None:
    chosen = chosen_tests(verdict, config.models)
    lists = {
        "verdict.hypotheses": (verdict.hypotheses, chosen),
        "verdict.ablation.hypotheses": (verdict.ablation.hypotheses, ("ablation",)),
        "verdict.training.hypotheses": (verdict.training.hypotheses, ("training",)),
    }
    for field, (names, tests) in lists.items():
        for name in names or ():
            hypothesis = find_hypothesis(name)
            asked = [test for test in tests if name in (verdict.named(test) or ())] or tests
            if set(hypothesis.tests) & set(asked):
                continue
            if verdict.tests is None and tests == chosen and "update" in hypothesis.tests:
                raise ConfigError(
                    f"{field}: {name!r} has no ablation test, and its update test needs a fine-tune: give "
                    "models.contaminated, finetuned or useful (safespan test: --contaminated, --finetuned or "
                    "--useful), or leave the hypothesis out"
                )
            own = [f"verdict.{test}.hypotheses" for test in hypothesis.tests if test in tests]
            to_do = (
                f"name it in {' or '.join(own)}"
                if own
                else "choose one of these in verdict.tests (safespan test: --tests)"
            )
            raise ConfigError(
                f"{field}: {name!r} cannot be put to the {' or '.join(asked)} test, it has "
                f"{', '.join(hypothesis.tests)}: {to_do}, or leave the hypothesis out"
            )
    for test in chosen:
        field = "verdict.hypotheses" if verdict.named(test) == verdict.hypotheses else f"verdict.{test}.hypotheses"
        for name in tested_hypotheses(config, test):
            hypothesis = find_hypothesis(name)
            if missing := hypothesis.missing(present, test):
                fields, options = (given(present, test) for given in (hypothesis.fields_for, hypothesis.options_for))
                raise ConfigError(
                    f"{field}: {name!r} needs {missing} for the {test} test: give {fields} (safespan test: {options}), "
                    "or leave the hypothesis out"
                )


def tested_hypotheses(config: StudyConfig, test: Test) -> list[str]:
    """The hypotheses that are put to a test: those named that have it, or all whose needs the study meets."""
    if config.verdict is None or test not in chosen_tests(config.verdict, config.models):
        return []
    there, named = _models_and_prompts(config), config.verdict.named(test)
    having = [name for name in named or tested_by_default() if test in find_hypothesis(name).tests]
    return having if named else [name for name in having if not find_hypothesis(name).missing(there, test)]


def left_out(config: StudyConfig) -> list[str]:
    """Lines about what a study says and does not do.

    They are, of each chosen test, the hypotheses that are named and do not have it, and the settings of other tests.
    """
    if (verdict := config.verdict) is None:
        return []
    lines, chosen = [], chosen_tests(verdict, config.models)
    for test in chosen:
        if names := [name for name in verdict.named(test) or () if test not in find_hypothesis(name).tests]:
            lines.append(f"{test} test: without {', '.join(names)}, named in the study: they have no such test")
    unused = [
        f"verdict.{test}.{field}"
        for test, own in (("ablation", verdict.ablation), ("training", verdict.training))
        if test not in chosen
        for field, info in type(own).model_fields.items()
        if getattr(own, field) != info.default
    ]
    return [*lines, *([f"not used, as the study has no such test: {', '.join(unused)}"] if unused else [])]


def needed_updates(config: StudyConfig) -> set[str]:
    """The roles whose difference from aligned something that a study measures is of; the update test needs its own."""
    needs: set[str] = {need for name in _projected(config) for need in find_hypothesis(name).needs}
    if config.overlap:
        needs.add("base")
    for test in TESTS:
        for name in tested_hypotheses(config, test):
            needs |= find_hypothesis(name).needs_of(test)
    if config.verdict and "update" in chosen_tests(config.verdict, config.models):
        needs |= set(update_finetunes(config.models))
    return needs & config.models.keys()


def needs_base_activations(config: StudyConfig) -> bool:
    """Whether a claim that is tested reads what base does on the prompts; other studies do not run base on them."""
    return any(find_hypothesis(name).reads_base for test in TESTS for name in tested_hypotheses(config, test))


def _projected(config: StudyConfig) -> tuple[str, ...]:
    """The subspaces of the projection grid."""
    return () if config.projection is None else config.projection.subspaces or SUBSPACES


def _models(config: StudyConfig) -> set[str]:
    return {"base", "safe", "harmful"} & config.models.keys()


def _models_and_prompts(config: StudyConfig) -> set[str]:
    """Prompts are those of the field activations."""
    return _models(config) | ({"prompts"} if config.activations else set())
