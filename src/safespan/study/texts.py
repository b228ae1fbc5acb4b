"""Whether the models that are on this disk can read a study's prompts, from tokenizers and configurations alone."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

from safespan.checkpoints import Checkpoint, open_local
from safespan.data import Prompt, read_prompts
from safespan.data.hub import from_files_alone, offline
from safespan.data.task_files import has_documents_here
from safespan.errors import DataError
from safespan.settings import PromptSource, StudyConfig, TrainingConfig
from safespan.study.inputs import Named

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from safespan.evaluation.prompting import ChatFormat
    from safespan.evaluation.utility import UtilityTask


class Reader(NamedTuple):
    """A given model, its own tokenizer, and the tokens that it has room for, if its configuration says."""

    model: Checkpoint
    tokenizer: "PreTrainedTokenizerBase"
    context: int | None


_ROWS = 64
"""Rows of a training that are encoded at once."""

_ASKED = ("evaluation.harmfulness.prompts", "evaluation.over_refusal.prompts")


def check_texts(config: StudyConfig, named: Sequence[Named]) -> list[str]:
    """Refuse models that cannot read the study's prompts, and prompts that leave no room in a model's context.

    Neither weights nor the network are used. A model that the study trains reads as the model that it starts from.

    Args:
        config: resolved.
        named: rows and prompts that can be read already.

    Returns:
        The roles that are not checked: the first model of their line is not on this disk, or the study makes it.

    Raises:
        SafespanError: a folder or a tokenizer that cannot be used, a chat template that fails, or a prompt too long.
    """
    models = {role: model for role in config.models if (model := _origin(config, role))}
    if "aligned" not in models:  # all are prompted as it is
        return list(config.models)
    from safespan.evaluation import Prompting, build_tasks, context_of, tokenizer_of
    from safespan.models.stored_names import check_in_memory

    prompting, evaluation = Prompting(config.evaluation, models["aligned"]), config.evaluation
    readers = {model.name: Reader(model, tokenizer_of(model), context_of(model)) for model in models.values()}
    chosen = {kind: task for kind, task in (("utility", evaluation.utility), ("general", evaluation.general)) if task}
    here = {kind: task for kind, task in chosen.items() if has_documents_here(task.task)}
    with from_files_alone() if here else nullcontext():
        tasks = build_tasks(here) if here else {}
    for reader in readers.values():
        _check_prompts(config, _read(named, _ASKED), tasks, prompting.format_of(reader.model, reader.tokenizer), reader)
    if evaluation.engine.name == "memory" and (config.projection or config.verdict):
        check_in_memory(models["aligned"].folder, models["aligned"].name, models["aligned"].stored_shapes)
    by_role = {role: readers[model.name] for role, model in models.items()}
    _check_activations(config, named, by_role)
    _check_trainings(config, named, by_role)
    return [role for role in config.models if role not in models]


def _origin(config: StudyConfig, role: str) -> Checkpoint | None:
    """The given model that the model of a role is trained from, or that it is."""
    source = config.models.get(role)
    if source is None:  # the study grows it
        return None
    return open_local(source.model) if source.model else _origin(config, str(source.start))


def _check_prompts(
    config: StudyConfig,
    prompts: Iterator[tuple[str, str, list[Prompt]]],
    tasks: "Mapping[str, UtilityTask]",
    chat_format: "ChatFormat",
    reader: Reader,
) -> None:
    from safespan.evaluation import check_questions

    evaluation, measured = config.evaluation, config.verdict.prompts if config.verdict else 0
    name, context = reader.model.name, reader.context
    chat = evaluation.apply_chat_template and chat_format.tokenizer.chat_template is not None
    chat_format.check_room(["a question"], chat, None, "a question")
    limits = {_ASKED[0]: evaluation.harmfulness, _ASKED[1]: evaluation.over_refusal}
    for field, what, found in prompts:
        limit = limits[field]
        asked = found[: limit.limit if limit else None]
        texts, places = [one.prompt for one in asked], [one.place for one in asked]
        chat_format.check_room(texts, chat, context, f"{name}: {what}", places)
        answers = [str(one.target) for one in asked[:measured] if one.target] if field == _ASKED[0] else []
        if len(answers) == len(asked[:measured]) > 0:
            kinds = f"{name}: {what} with their targets"
            chat_format.check_room(texts[:measured], chat, context, kinds, places, answers)
    for kind, task in tasks.items():
        if context is not None:
            check_questions(task, chat_format, chat, context, f"{name}: questions of the {kind} task")


def _check_activations(config: StudyConfig, named: Sequence[Named], readers: Mapping[str, Reader]) -> None:
    if config.activations is None:
        return
    from safespan.activations.capture import encode
    from safespan.models.prompt_ids import check_room

    roles = [*config.activations.models, *(["aligned"] if config.verdict else [])]
    chosen = {readers[role].model.name: readers[role] for role in roles if role in readers}
    for _, what, prompts in _read(named, ("activations.useful", "activations.harmful")):
        texts, places = [one.prompt for one in prompts], [one.place for one in prompts]
        for name, reader in chosen.items():
            rows = encode(reader.tokenizer, texts, chat_template=True, day=config.activations.template_date)
            check_room(rows, reader.context, f"{name}: {what}", places, answered=False)


def _check_trainings(config: StudyConfig, named: Sequence[Named], readers: Mapping[str, Reader]) -> None:
    from safespan.training.encoding import end_ids
    from safespan.training.start import check_template

    rows, checked = {one.field: one for one in named}, set[str]()
    for role, source in config.models.items():
        if source.train is not None and role in readers:
            train, reader = source.train, readers[role]
            check_template(reader.tokenizer, train)
            end_ids(reader.tokenizer, train.prompt_format)
            one = rows.get(f"models.{role}.train.data")
            # Several models may be trained on the same rows.
            key = f"{train.data!r} {reader.model.name} {train.max_length} {train.prompt_format} {train.template_date}"
            if one and key not in checked:
                checked.add(key)
                _check_rows(one.field, train, reader)


def _check_rows(field: str, train: TrainingConfig, reader: Reader) -> None:
    """Refuse rows of which none leaves room for a response; the first that does ends the search."""
    from safespan.training.encoding import encode
    from safespan.training.mixture import read_examples

    room = min(train.max_length, reader.context or train.max_length)
    with offline(train.data):
        examples = read_examples(train.data)
    for start in range(0, len(examples), _ROWS):
        try:
            encode(reader.tokenizer, examples[start : start + _ROWS], room, train.prompt_format, train.template_date)
            return
        except DataError as error:
            reason = error
    raise DataError(f"{field}: {reader.model.name}: {reason}")


def _read(named: Sequence[Named], fields: Sequence[str]) -> Iterator[tuple[str, str, list[Prompt]]]:
    """Field, name for messages and prompts of some sources."""
    for one in named:
        if one.field in fields and isinstance(one.source, PromptSource):
            with offline(one.source):
                yield one.field, one.what, read_prompts(one.source)
