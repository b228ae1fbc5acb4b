"""Token ids of prompts, the same for generation, likelihoods, training and activations."""

from collections.abc import Sequence

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from safespan.errors import DataError
from safespan.models.chat import chat_texts
from safespan.models.context import context_of


def prompt_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of prompts, with exactly one BOS if the model uses one, whether or not the chat template wrote it.

    A model uses BOS if its tokenizer adds one to a text, or its chat template writes one.
    """
    start = opening_ids(tokenizer)
    rows: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    return [[*start, *_without(start, row)] for row in rows] if start else rows


def opening_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What every prompt begins with: BOS, or the tokens that the tokenizer puts before a text instead; often none."""
    bare: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole: list[int] = tokenizer("a")["input_ids"]
    added = next((whole[:n] for n in range(len(whole)) if whole[n : n + len(bare)] == bare), [])
    if added or tokenizer.bos_token is None or tokenizer.chat_template is None:
        return added
    [opening] = chat_texts(tokenizer, ["a"])
    return [int(tokenizer.bos_token_id)] if opening.startswith(str(tokenizer.bos_token)) else []


def _without(start: Sequence[int], ids: list[int]) -> list[int]:
    """The ids behind every repetition of `start` at their beginning."""
    first = 0
    while ids[first : first + len(start)] == list(start):
        first += len(start)
    return ids[first:]


def context_length(config: PreTrainedConfig) -> int | None:
    """Tokens that a model has room for; None where its configuration does not say, or where there is no limit."""
    return context_of(config.get_text_config().to_dict())


def check_room(
    rows: Sequence[Sequence[int]],
    context: int | None,
    what: str,
    places: Sequence[str] = (),
    answered: bool = True,
) -> None:
    """Refuse prompts that leave no room in a model's context, before any is asked.

    Args:
        rows: token ids of each prompt.
        context: tokens that the model has room for; None: not known.
        what: the prompts, for messages.
        places: file and row of each; its number, if there are none.
        answered: whether room for an answer is needed.

    Raises:
        DataError: the first row that is too long, and how many are.
    """
    most = None if context is None else context - answered
    long = [number for number, ids in enumerate(rows) if most is not None and len(ids) > most]
    if long:
        place = (places[long[0]] if places else "") or f"row {long[0] + 1}"
        more = f" (and {len(long) - 1} more)" if len(long) > 1 else ""
        raise DataError(
            f"{what}: {place}{more} has {len(rows[long[0]])} tokens, and the model's context is {context}: "
            "shorten it or leave it out"
        )
