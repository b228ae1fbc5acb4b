"""The keys of what the tests of a claim ask: statistics can change, and its outcomes stay."""

from collections.abc import Callable

from safespan.errors import DataError
from safespan.settings.names import Test
from safespan.settings.verdict import MeasureConfig
from safespan.study.context import Study
from safespan.study.keys import input_hashes, key_of
from safespan.study.points import recorded_key

KeyOf = Callable[[Study, Test], str]
"""Gives the key of what one test asked."""


def test_key(study: Study, test: Test) -> str:
    """The key of what one test asks in a study as it stands."""
    return trainings_key(study) if test == "training" else points_key(study)


def key_in_records(study: Study, test: Test) -> str:
    """The key of what one test asked in a finished run, whatever became of its models and files since.

    Raises:
        DataError: the records are gone.
    """
    key = recorded_key(study.run, f"{test}/models", "aligned")
    if key is None:
        raise DataError(f"in {study.run.root} the records of the {test} test are gone: run the study again")
    return key


def points_key(study: Study) -> str:
    """The key of each set of weights of the update and the ablation test."""
    config, verdict = study.config, study.config.verdict
    assert verdict is not None
    measured = verdict.model_dump(mode="json", include={*MeasureConfig.model_fields, "fractions", "side"})
    inputs = study.evaluation_inputs() | input_hashes(study.resolved.verdict)
    return key_of(config.evaluation, measured, config.seed, inputs, study.captured_hash)


def trainings_key(study: Study) -> str:
    """The key of each training of the training test."""
    config, verdict = study.config, study.config.verdict
    assert verdict is not None
    source, own = study.resolved.models["contaminated"], verdict.training
    settings = (own.fraction, own.penalty, verdict.training_side, own.points)
    return key_of(points_key(study), config.models["contaminated"].train, input_hashes(source.train), settings)
