"""Whether the models that are on this disk can read a study's prompts, from tokenizers and configurations alone."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from safespan.checkpoints import Checkpoint, open_local
from safespan.data import Prompt, read_prompts
from safespan.data.hub import from_files_alone, offline
from safespan.data.task_files import has_documents_here
from safespan.settings import PromptSource, StudyConfig
from safespan.settings.evaluation import EvaluationConfig
from safespan.study.inputs import Named

if TYPE_CHECKING:
    from safespan.evaluation import Prompting

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
    from safespan.evaluation import Prompting
    from safespan.models.stored_names import check_in_memory

    prompting = Prompting(config.evaluation, models["aligned"])
    for model in {model.name: model for model in models.values()}.values():
        _check_prompts(config.evaluation, named, prompting, model, config.verdict.prompts if config.verdict else 0)
    if config.evaluation.engine.name == "memory" and (config.projection or config.verdict):
        check_in_memory(models["aligned"].folder, models["aligned"].name, models["aligned"].stored_shapes)
    _check_activations(config, named, models)
    _check_trainings(config, models)
    return [role for role in config.models if role not in models]


def _origin(config: StudyConfig, role: str) -> Checkpoint | None:
    """The given model that the model of a role is trained from, or that it is."""
    source = config.models.get(role)
    if source is None:  # the study grows it
        return None
    return open_local(source.model) if source.model else _origin(config, str(source.start))


def _check_prompts(
    config: EvaluationConfig, named: Sequence[Named], prompting: "Prompting", model: Checkpoint, measured: int
) -> None:
    """Of one model; `measured`: how many of the first harmful prompts are given with their targets."""
    from safespan.evaluation import build_tasks, check_questions, context_of, tokenizer_of

    chat_format, context = prompting.format_of(model, tokenizer_of(model)), context_of(model)
    chat = config.apply_chat_template and chat_format.tokenizer.chat_template is not None
    chat_format.check_room(["a question"], chat, None, "a question")
    limits = {_ASKED[0]: config.harmfulness, _ASKED[1]: config.over_refusal}
    for field, what, prompts in _read(named, _ASKED):
        limit = limits[field]
        asked = prompts[: limit.limit if limit else None]
        texts, places = [one.prompt for one in asked], [one.place for one in asked]
        chat_format.check_room(texts, chat, context, f"{model.name}: {what}", places)
        answers = [str(one.target) for one in asked[:measured] if one.target] if field == _ASKED[0] else []
        if len(answers) == len(asked[:measured]) > 0:
            kinds = f"{model.name}: {what} with their targets"
            chat_format.check_room(texts[:measured], chat, context, kinds, places, answers)
    tasks = {kind: task for kind, task in (("utility", config.utility), ("general", config.general)) if task}
    here = {kind: task for kind, task in tasks.items() if has_documents_here(task.task)}
    if here:
        with from_files_alone():
            for kind, task in build_tasks(here).items():
                if context is not None:
                    check_questions(task, chat_format, chat, context, f"{model.name}: questions of the {kind} task")


def _check_activations(config: StudyConfig, named: Sequence[Named], models: Mapping[str, Checkpoint]) -> None:
    if config.activations is None:
        return
    from safespan.activations.capture import encode
    from safespan.evaluation import context_of, tokenizer_of
    from safespan.models.prompt_ids import check_room

    roles = [*config.activations.models, *(["aligned"] if config.verdict else [])]
    for model in {models[role].name: models[role] for role in roles if role in models}.values():
        for _, what, prompts in _read(named, ("activations.useful", "activations.harmful")):
            texts, places = [one.prompt for one in prompts], [one.place for one in prompts]
            rows = encode(tokenizer_of(model), texts, chat_template=True, day=config.activations.template_date)
            check_room(rows, context_of(model), f"{model.name}: {what}", places, answered=False)


def _check_trainings(config: StudyConfig, models: Mapping[str, Checkpoint]) -> None:
    from safespan.evaluation import tokenizer_of
    from safespan.training.encoding import end_ids
    from safespan.training.start import check_template

    for role, source in config.models.items():
        if source.train is not None and role in models:
            tokenizer = tokenizer_of(models[role])
            check_template(tokenizer, source.train)
            end_ids(tokenizer, source.train.prompt_format)


def _read(named: Sequence[Named], fields: Sequence[str]) -> Iterator[tuple[str, str, list[Prompt]]]:
    """Field, name for messages and prompts of some sources."""
    for one in named:
        if one.field in fields and isinstance(one.source, PromptSource):
            with offline(one.source):
                yield one.field, one.what, read_prompts(one.source)
