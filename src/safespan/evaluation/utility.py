"""Utility: lm-eval tasks, built once per study and run for every model and point."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lm_eval
from datasets.exceptions import DatasetsError
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from safespan.errors import ConfigError, DataError, SafespanError, first_line
from safespan.evaluation.harness import prepare_harness
from safespan.evaluation.judges import Exchange
from safespan.evaluation.model import ModelUnderTest
from safespan.evaluation.prompting import ChatFormat
from safespan.settings.evaluation import UtilityConfig

FEWSHOT_SEED = 1234
"""lm-eval's own default."""


@dataclass(frozen=True)
class UtilityTask:
    """A task that is ready to run, with the indices of its documents that are used (None: all)."""

    name: str
    task: Task
    documents: list[int] | None
    metric: str
    filter: str

    @property
    def asked(self) -> list[int]:
        """The indices of the documents that are used."""
        return list(range(len(self.task.eval_docs))) if self.documents is None else self.documents

    def part(self, start: int, stop: int | None) -> "UtilityTask | None":
        """The same task for some of its documents; None where there are none of these."""
        chosen = self.asked[start:stop]
        return replace(self, documents=chosen) if chosen else None

    def texts(self, number: int) -> set[str]:
        """The first questions as they are asked, and the texts of their documents but for the right answers.

        A question may be a text of its document with words around it. All are without white space around them.
        """
        documents, found = list(self.task.eval_docs), set[str]()
        for document in (documents[one] for one in self.asked[:number]):
            texts = {text.strip() for text in document.values() if isinstance(text, str)}
            found |= texts - {str(self.task.doc_to_target(document)).strip()}
            found.add(str(self.task.doc_to_text(document)).strip())
        return found


@dataclass(frozen=True)
class Answer:
    """The answer to one document of a task.

    Attributes:
        exchange: the question, without template or worked examples, the response and the right answer.
        correct: 1 or 0 by the metric and filter of the task.
        by_filter: the metric under every filter of the task.
    """

    exchange: Exchange
    correct: int
    by_filter: Mapping[str, float]


def build_tasks(configs: Mapping[str, UtilityConfig]) -> dict[str, UtilityTask]:
    """Build the tasks of a study, by kind of outcome (`utility`, `general`).

    Raises:
        ConfigError: unknown task, metric or filter, a group of tasks, or one task under two kinds.
        DataError: a task's documents cannot be loaded.
    """
    prepare_harness()
    # The index of lm-eval's tasks takes seconds; a YAML file does not need it.
    named = any(not Path(config.task).is_file() for config in configs.values())
    manager = TaskManager(include_defaults=named)
    tasks = {kind: _build(manager, config) for kind, config in configs.items()}
    if len({task.name for task in tasks.values()}) < len(tasks):
        raise ConfigError(f"{' and '.join(tasks)} name the same task; give each its own")
    return tasks


def _build(manager: TaskManager, config: UtilityConfig) -> UtilityTask:
    if not Path(config.task).is_file() and config.task not in manager.all_tasks:
        raise ConfigError(f"task {config.task!r}: neither a task of lm-eval nor a YAML file")
    with _as_task_error(config.task):
        try:
            loaded = manager.load([config.task])["tasks"]
        except (OSError, ValueError, DatasetsError) as error:
            raise DataError(f"task {config.task!r}: its documents cannot be loaded ({first_line(error)})") from error
    if len(loaded) != 1:
        raise ConfigError(f"task {config.task!r} is a group of {len(loaded)} tasks; name one of them")
    name, task = next(iter(loaded.items()))
    if config.num_fewshot is not None:
        task.set_config(key="num_fewshot", value=config.num_fewshot)
    filters = [entry["name"] for entry in task.config.filter_list or [{"name": "none"}]]
    chosen = config.filter or filters[0]
    for kind, name_of_kind, known in (("metric", config.metric, list(task.aggregation())), ("filter", chosen, filters)):
        if name_of_kind not in known:
            raise ConfigError(f"task {config.task!r} has no {kind} {name_of_kind!r}; it has {', '.join(known)}")
    total = len(task.eval_docs)
    _check_first(config.task, task, config.metric)
    documents = list(range(config.limit)) if config.limit and config.limit < total else None
    return UtilityTask(name, task, documents, config.metric, chosen)


def _check_first(name: str, task: Task, metric: str) -> None:
    """Refuse a task that fails on its first document, or whose metric is no 0 or 1 there, before a model answers."""
    with _as_task_error(name):
        document = next(iter(task.eval_docs), None)
        if document is None:
            raise DataError(f"task {name!r}: it has no documents")
        task.doc_to_text(document)
        task.doc_to_target(document)
        if task.OUTPUT_TYPE != "generate_until":
            return
        score = task.process_results(document, ["an answer"]).get(metric)
    if not isinstance(score, bool | int | float) or float(score) not in (0.0, 1.0):
        raise ConfigError(f"metric {metric!r} of task {name!r} is {score!r}: choose one that is 0 or 1")


def evaluate_utility(
    model: ModelUnderTest, tasks: Mapping[str, UtilityTask], chat_template: bool
) -> dict[str, list[Answer]]:
    """Answer the documents of all tasks in one run of the harness.

    Args:
        tasks: kind -> task, of `build_tasks`.
        chat_template: format questions and worked examples as turns of a chat.

    Returns:
        kind -> one answer per document, in order.

    Raises:
        ConfigError: the metric is not 0 or 1 for a document.
    """
    for task in tasks.values():
        task.task.set_fewshot_seed(seed=FEWSHOT_SEED)  # the same worked examples for every model
    results = lm_eval.evaluate(
        model.lm,
        {"tasks": {task.name: task.task for task in tasks.values()}},
        samples={task.name: task.documents for task in tasks.values() if task.documents},
        bootstrap_iters=0,
        apply_chat_template=chat_template,
        fewshot_as_multiturn=chat_template,
    )
    return {kind: _answers(task, results["samples"][task.name]) for kind, task in tasks.items()}


def check_questions(task: UtilityTask, chat_format: ChatFormat, chat_template: bool, context: int, what: str) -> None:
    """Refuse questions of a task that leave no room in a model's context, with their worked examples or choices.

    Args:
        chat_template: format questions and worked examples as turns of a chat.
        context: tokens that the model has room for.
        what: the questions, for messages.

    Raises:
        DataError: names the first of them by its number.
    """
    task.task.set_fewshot_seed(seed=FEWSHOT_SEED)
    options = {"apply_chat_template": chat_template, "fewshot_as_multiturn": chat_template}
    with _as_task_error(task.name):
        task.task.build_all_requests(
            samples=task.documents, chat_template=chat_format.chat if chat_template else None, **options
        )
    prompts: dict[int, tuple[str, str]] = {}
    for instance in task.task.instances:
        text, answer = (*map(str, instance.args[:1]), "")[:2]
        if instance.request_type == "loglikelihood":
            answer = str(instance.args[1])
        known = prompts.get(instance.doc_id, ("", ""))
        prompts[instance.doc_id] = max(known, (text, answer), key=lambda pair: len("".join(pair)))
    numbers = sorted(prompts)
    texts, answers = ([prompts[number][part] for number in numbers] for part in (0, 1))
    places = [f"document {number + 1}" for number in numbers]
    chat_format.check_room(texts, False, context, what, places, answers if any(answers) else ())


@contextmanager
def _as_task_error(name: str) -> Iterator[None]:
    """Turn an error of a task's file, templates or functions into one line; they raise errors of every type."""
    try:
        yield
    except SafespanError:
        raise
    except Exception as error:
        raise DataError(f"task {name!r}: it fails ({type(error).__name__}: {first_line(error)[:200]})") from error


def _answers(task: UtilityTask, samples: list[dict[str, Any]]) -> list[Answer]:
    by_document: dict[int, dict[str, dict[str, Any]]] = {}
    for sample in samples:
        by_document.setdefault(sample["doc_id"], {})[sample["filter"]] = sample
    answers = []
    for _, filters in sorted(by_document.items()):
        sample = filters[task.filter]
        score = float(sample[task.metric])
        if score not in (0.0, 1.0):
            raise ConfigError(f"metric {task.metric!r} of task {task.name!r} is {score:g}: choose one that is 0 or 1")
        exchange = Exchange(str(task.task.doc_to_text(sample["doc"])), _said(task.task, sample), str(sample["target"]))
        by_filter = {name: float(filtered[task.metric]) for name, filtered in filters.items()}
        answers.append(Answer(exchange, int(score), by_filter))
    return answers


def _said(task: Task, sample: dict[str, Any]) -> str:
    """The response, or of a choice the most likely one."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return str(sample["resps"][0][0]).strip()
    likelihoods = [float(given[0][0]) for given in sample["resps"]]
    choices = task.doc_to_choice(sample["doc"])
    return str(choices[max(range(len(choices)), key=likelihoods.__getitem__)])
