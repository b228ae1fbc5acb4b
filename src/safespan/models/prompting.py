"""From prompts to token ids, the same for generation, likelihoods, training and activations."""

import re
from collections.abc import Sequence
from datetime import date
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from safespan.errors import ConfigError, DataError

Turns = Sequence[dict[str, str]]
"""A conversation: role and content of each turn."""

_TODAY = re.compile(r"""strftime_now\(\s*(?P<quote>["'])(?P<format>.*?)(?P=quote)\s*\)""", re.DOTALL)
"""How a chat template asks for the date of today."""


def chat_texts(
    tokenizer: PreTrainedTokenizerBase,
    chats: Sequence[Turns],
    day: date,
    add_generation_prompt: bool = True,
    **options: Any,
) -> list[str]:
    """Conversations as texts, in the tokenizer's chat template.

    Args:
        tokenizer: with a chat template.
        chats: the conversations.
        day: today, for templates that ask for it: else answers would change overnight.
        add_generation_prompt: end with the opening of the model's turn; else the last turn is left open.
        options: of the template, such as enable_thinking.

    Raises:
        ConfigError: the template cannot be filled in.
    """
    try:
        texts: Any = tokenizer.apply_chat_template(
            [list(chat) for chat in chats],
            chat_template=with_fixed_date(str(tokenizer.get_chat_template()), day),
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
            **options,
        )
    except (TemplateError, ValueError) as error:
        raise ConfigError(
            f"the chat template of {tokenizer.name_or_path} cannot be filled in ({error}): mend its "
            "chat_template.jinja, or set apply_chat_template: false"
        ) from None
    return [str(text) for text in texts]


def with_fixed_date(template: str, day: date) -> str:
    """A chat template in which every question for the date of today is replaced by a fixed one.

    Raises:
        ConfigError: it asks with a format that is computed.
    """

    def fixed(found: re.Match[str]) -> str:
        return f'"{day.strftime(found["format"])}"'

    replaced = _TODAY.sub(fixed, template)
    if "strftime_now(" in replaced:
        raise ConfigError(
            "the chat template asks for the date with a format that is computed: write the format as a text"
        )
    return replaced


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
    [opening] = chat_texts(tokenizer, [[{"role": "user", "content": "a"}]], date.min)
    return [int(tokenizer.bos_token_id)] if opening.startswith(str(tokenizer.bos_token)) else []


def _without(start: Sequence[int], ids: list[int]) -> list[int]:
    """The ids behind every repetition of `start` at their beginning."""
    first = 0
    while ids[first : first + len(start)] == list(start):
        first += len(start)
    return ids[first:]


def context_length(config: PreTrainedConfig) -> int | None:
    """Tokens that a model has room for; None where its configuration does not say."""
    text = config.get_text_config()
    found = (getattr(text, name, None) for name in ("n_positions", "max_position_embeddings", "n_ctx"))
    return next((int(value) for value in found if value is not None), None)


def check_room(rows: Sequence[Sequence[int]], context: int | None, what: str) -> None:
    """Refuse prompts that leave no room in a model's context, before any is asked.

    Args:
        rows: token ids of each prompt.
        context: tokens that the model has room for; None: not known.
        what: the prompts, for messages.

    Raises:
        DataError: the first row that is too long, and how many are.
    """
    long = [number for number, ids in enumerate(rows, start=1) if context is not None and len(ids) >= context]
    if long:
        more = f" (and {len(long) - 1} more)" if len(long) > 1 else ""
        raise DataError(
            f"{what}: row {long[0]}{more} has {len(rows[long[0] - 1])} tokens, and the model's context is {context}: "
            "shorten it or leave it out"
        )
