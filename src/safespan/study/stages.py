"""The stages of a study: one list, from which its names, its plan, its run and its manifest come."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from safespan.settings.names import Test, hypothesis_names
from safespan.settings.study import ModelSource
from safespan.settings.verdict import SelectivityConfig, chosen_tests
from safespan.study import (
    claim_ablation,
    claim_training,
    claim_update,
    coverage,
    experiments,
    judgement,
    models,
    roles,
    summaries,
)
from safespan.study.claim_keys import points_key, test_key, trainings_key
from safespan.study.context import Study
from safespan.study.judge_again import ask_judge_again
from safespan.study.keys import input_hashes, key_of
from safespan.study.needs import needed_updates, needs_base_activations, tested_hypotheses
from safespan.study.protected import source_hashes
from safespan.subspaces.captured import CONTENTS


@dataclass(frozen=True)
class Stage:
    """One stage of a study.

    Attributes:
        name: in messages and records.
        when: whether the study has this stage.
        key: of the work; computed after all stages before it are done.
        outputs: files and folders that the work makes.
        work: does it, under its key.
        summary: what a dry run says of it beside its name.
        prepare: what is done under the key before it is known whether the stage has to be done.
        job: the work, where it needs nothing of the stages beside it that have jobs too: a fine-tuning of aligned.
    """

    name: str
    when: bool
    key: Callable[[], str]
    outputs: tuple[Path, ...]
    work: Callable[[str], None]
    summary: str = ""
    prepare: Callable[[str], None] | None = None
    job: models.TrainingJob | None = None


def stages(study: Study) -> list[Stage]:
    """The stages of a study in their order: data, models, outcomes, the four experiments, the verdict."""
    config, run = study.config, study.run
    ceiling = config.overlap.ceiling if config.overlap else None
    compared = [_role_stage(study)]
    every = [
        Stage(
            "data",
            when=config.data is not None,
            key=lambda: key_of(config.data, config.seed, run.root.resolve()),  # tasks name the folder they lie in
            outputs=(run.data,),
            work=lambda key: models.make_data(study),
            summary=str(config.data),
        ),
        *(compared if roles.are_given_first(config) else []),
        *(_model_stage(study, role) for role in config.models),
        *([_model_stage(study, ceiling, again=True)] if ceiling else []),
        *([] if roles.are_given_first(config) else compared),
        Stage(
            "outcomes",
            when=True,
            key=lambda: key_of(config.evaluation, study.evaluation_inputs()),
            outputs=run.tables("models", "models_by_filter"),
            work=lambda key: experiments.evaluate_models(study, key),
            summary=summaries.outcomes(study.resolved),
            prepare=lambda key: ask_judge_again(study, "", key, run.table("models")),
        ),
        Stage(
            "projection",
            when=config.projection is not None,
            key=lambda: key_of(config.evaluation, config.projection, config.seed, study.evaluation_inputs()),
            outputs=run.tables("projection", "projection_by_filter", "removed_energy"),
            work=lambda key: experiments.evaluate_projections(study, key),
            summary=f"{summaries.grid_points(config)} points, each answers what a model answers",
            prepare=lambda key: ask_judge_again(study, "projection", key, run.table("projection")),
        ),
        Stage(
            "update overlap",
            when=config.overlap is not None,
            key=lambda: key_of(
                config.overlap, study.weights_hashes, ceiling and study.weights_hash(ceiling, again=True)
            ),
            outputs=run.tables("overlap", "spectra"),
            work=lambda key: experiments.measure_update_overlap(study),
            summary=summaries.update_overlap(study.resolved),
        ),
        *_activation_stages(study),
        *_claim_stages(study),
    ]
    return [stage for stage in every if stage.when]


def batches(every: Iterable[Stage]) -> list[list[Stage]]:
    """The stages in their order; consecutive ones that have jobs, which need not wait for one another, together."""
    found: list[list[Stage]] = []
    for stage in every:
        if stage.job and found and found[-1][-1].job:
            found[-1].append(stage)
        else:
            found.append([stage])
    return found


def _role_stage(study: Study) -> Stage:
    compared = roles.compared_roles(study.config)
    return Stage(
        "roles",
        when=bool(compared),
        key=lambda: key_of(sorted(needed_updates(study.config)), {role: study.weights_hash(role) for role in compared}),
        outputs=(study.run.roles,),
        work=lambda key: roles.compare_roles(study),
        summary=f"does each of {', '.join(compared)} have the right role",
    )


def _model_stage(study: Study, role: str, again: bool = False) -> Stage:
    source, config = study.resolved.models[role], study.config

    def key() -> str:
        start = study.model_hashes([str(source.start)]) if source.start in config.models else None
        inputs = input_hashes(source.train) | source_hashes(study, source.train)
        return key_of(role, config.models[role], config.seed + again, start, inputs)

    return Stage(
        f"model {role} again" if again else f"model {role}",
        when=source.model is None,
        key=key,
        outputs=(study.trained_folder(role, again),),
        work=lambda key: models.train_model(study, models.training_job(study, role, again)),
        summary="with the next seed" if again else "",
        job=models.training_job(study, role, again) if _stands_alone(source) else None,
    )


def _stands_alone(source: ModelSource) -> bool:
    """Whether a training needs no other model of the study than the aligned one, so that others can run beside it."""
    protected = source.train is not None and source.train.protect is not None
    return source.start == "aligned" and not protected


def _activation_stages(study: Study) -> list[Stage]:
    config, run = study.config, study.run
    return [
        Stage(
            "activation overlap",
            when=config.activations is not None,
            key=lambda: key_of(
                config.activations,
                config.seed,
                study.model_hashes(config.activations.models if config.activations else ()),
                _prompt_hashes(study),
            ),
            outputs=run.tables("activations", "separation"),
            work=lambda key: experiments.measure_activations(study),
            summary=", ".join(config.activations.models) if config.activations else "",
        ),
        Stage(
            "activations of aligned",
            when=config.verdict is not None and config.activations is not None,
            key=lambda: key_of(
                CONTENTS,
                config.activations,
                config.verdict and config.verdict.refusals,
                study.model_hashes(["aligned", "base"] if needs_base_activations(config) else ["aligned"]),
                _prompt_hashes(study),
            ),
            outputs=(run.captured,),
            work=lambda key: experiments.capture_activations(study),
            summary="for the claims that need them",
        ),
    ]


def _prompt_hashes(study: Study) -> dict[str, str]:
    return input_hashes(study.resolved.activations)


def _claim_stages(study: Study) -> list[Stage]:
    """The tests of claims, each asked apart, and the verdicts on all of them."""
    config, run, verdict = study.config, study.run, study.config.verdict
    tests = chosen_tests(verdict, config.models) if verdict else ()

    def covered(of: Iterable[Test] = tests) -> str:
        """A key of the claims in some tests, and of what they name."""
        assert verdict is not None
        settings = (verdict.side, verdict.fractions, verdict.training.fraction, verdict.training_side, config.seed)
        claims = [(test, tested_hypotheses(config, test)) for test in of]
        return key_of(settings, study.weights_hashes, study.captured_hash, claims, hypothesis_names())

    def stage(test: Test, key: Callable[[Study], str], work: Callable[[Study, str], None], settings: object) -> Stage:
        return Stage(
            f"{test} test",
            when=test in tests,
            key=lambda: key_of(key(study), covered([test]), settings),
            outputs=run.tables(test),
            work=lambda _: work(study, key(study)),
            summary=summaries.test(study.resolved, test),
        )

    statistics = verdict.model_dump(include=set(SelectivityConfig.model_fields)) if verdict else None
    trained = verdict.training if verdict else None
    return [
        Stage(
            "coverage",
            when=bool(tests),
            key=covered,
            outputs=run.tables("coverage"),
            work=lambda key: coverage.measure_coverage(study),
            summary="the matrices and the energy that each claim names",
        ),
        # What is asked of a claim depends on whether it is decided.
        stage("update", points_key, claim_update.run_update_test, statistics),
        stage("ablation", points_key, claim_ablation.run_ablation_test, statistics),
        stage("training", trainings_key, claim_training.run_training_test, trained),
        Stage(
            "verdict",
            when=bool(tests),
            key=lambda: key_of(points_key(study), covered(), verdict, "training" in tests and trainings_key(study)),
            outputs=run.tables("verdicts", "estimates"),
            work=lambda key: judgement.judge_claims(study, test_key),
            summary="on each claim in each test",
        ),
    ]
