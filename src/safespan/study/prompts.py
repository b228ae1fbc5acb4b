"""Whether the prompts that claims are made from are two classes, and others than those that models are asked."""

import logging
from collections.abc import Collection

from safespan.data import Prompt, read_prompts
from safespan.data.classes import read_classes, shared_by_classes, texts_of
from safespan.data.hub import NotCachedError, from_files_alone, offline
from safespan.data.task_files import has_documents_here
from safespan.errors import DataError
from safespan.settings import PromptSource, StudyConfig
from safespan.settings.analysis import ActivationsConfig
from safespan.settings.names import TESTS
from safespan.study.inputs import named_data
from safespan.study.needs import tested_hypotheses
from safespan.subspaces import find_hypothesis

_log = logging.getLogger(__name__)


def check_classes(config: StudyConfig, readable: Collection[str]) -> list[str]:
    """Refuse two classes of prompts that are one, and classes that are too small.

    Args:
        config: resolved.
        readable: fields whose prompts can be read already.

    Returns:
        Remarks: how many prompts are in both classes, and how many of a claim's prompts are asked of the models too.

    Raises:
        DataError: what is wrong with the classes.
    """
    settings = config.activations
    if settings is None or not {"activations.useful", "activations.harmful"} <= set(readable):
        return []
    try:
        with offline(settings.useful), offline(settings.harmful):
            classes = read_classes(settings.useful, settings.harmful)
    except NotCachedError:
        return []
    except DataError as error:
        raise DataError(f"activations: {error}") from error
    return [f"activations: {remark}" for remark in shared_by_classes(classes)] + _asked_too(config, settings, readable)


def notes_on_prompts(config: StudyConfig) -> list[str]:
    """The remarks of a study that is done, whose prompts can all be read."""
    return check_classes(config, [named.field for named in named_data(config)])


def warn_of_prompts(config: StudyConfig, readable: Collection[str]) -> None:
    """Log the remarks of `check_classes`."""
    for remark in check_classes(config, readable):
        _log.warning(remark)


def _asked_too(config: StudyConfig, settings: ActivationsConfig, readable: Collection[str]) -> list[str]:
    """How many prompts of a class are also asked in the tests of the claims that are made from them."""
    made = dict.fromkeys(
        name for test in TESTS for name in tested_hypotheses(config, test) if "prompts" in find_hypothesis(name).needs
    )
    verdict, harm = config.verdict, config.evaluation.harmfulness
    if not made or verdict is None or harm is None:
        return []
    asked = {"useful": set[str](), "harmful": set[str]()}
    if "evaluation.harmfulness.prompts" in readable:
        asked["harmful"] = texts_of(_read(harm.prompts)[: harm.limit][: verdict.prompts])
    if verdict.useful is None:
        asked["useful"] = _questions(config, verdict.prompts)
    elif "verdict.useful" in readable:
        asked["useful"] = texts_of(_read(verdict.useful)[: verdict.prompts])
    lines = []
    for kind, texts in asked.items():
        own = texts_of(_read(getattr(settings, kind)))
        if shared := len(own & texts):
            lines.append(
                f"activations.{kind}: {shared} of {len(own)} prompts are also asked in the tests, so that claims are "
                f"tested on prompts that they were made from ({', '.join(made)}): give other prompts"
            )
    return lines


def _read(source: PromptSource) -> list[Prompt]:
    """The prompts of a source; none where it is a data set that is not on this disk."""
    try:
        with offline(source):
            return read_prompts(source)
    except NotCachedError:
        return []


def _questions(config: StudyConfig, number: int) -> set[str]:
    """The first questions of the utility task; none where its documents are no files on this disk."""
    task = config.evaluation.utility
    if task is None or not has_documents_here(task.task):
        return set()
    from safespan.evaluation import build_tasks

    with from_files_alone():
        return build_tasks({"utility": task})["utility"].texts(number)
