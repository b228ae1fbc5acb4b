"""Prompts in a model's chat template."""

import re
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from transformers import PreTrainedTokenizerBase

from safespan.data import Conversation, Turn, turns_of
from safespan.errors import CheckpointError, ConfigError, SafespanError, first_line
from safespan.settings.base import TEMPLATE_DATE

_REMEDY = "mend chat_template.jinja, or do without it (apply_chat_template: false; of a training prompt_format: alpaca)"


_TODAY = re.compile(r"""strftime_now\s*\(\s*(?P<quote>["'])(?P<format>.*?)(?P=quote)\s*\)""", re.DOTALL)
_TODAY_OTHERWISE = re.compile(r"strftime_now(?!\s+is\b)")
"""How a chat template asks for the date of today, and whether it does so in another way."""


def chat_texts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], day: date = TEMPLATE_DATE) -> list[str]:
    """Prompts in the chat template, up to where the assistant's turn begins.

    Args:
        tokenizer: with a chat template.
        prompts: texts, some of which may carry several turns.
        day: today, for templates that ask for it: else results would change overnight.

    Raises:
        CheckpointError: as `in_template`.
    """

    def render(turns: list[Turn]) -> str:
        return fill_in(tokenizer, turns, day)

    return [in_template(prompt, render, tokenizer.name_or_path) for prompt in prompts]


def fill_in(
    tokenizer: PreTrainedTokenizerBase,
    turns: Sequence[Turn],
    day: date,
    add_generation_prompt: bool = True,
    **options: Any,
) -> str:
    """Turns as text, in the tokenizer's chat template; the template may raise errors of every type.

    Args:
        tokenizer: with a chat template.
        turns: the conversation.
        day: today, for templates that ask for it.
        add_generation_prompt: end with the opening of the assistant's turn; else the last turn is left open.
        options: of the template, such as enable_thinking.
    """
    return str(
        tokenizer.apply_chat_template(
            list(turns),
            chat_template=with_fixed_date(str(tokenizer.get_chat_template()), day),
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
            **options,
        )
    )


def with_fixed_date(template: str, day: date) -> str:
    """A chat template in which every question for the date of today is replaced by a fixed one.

    Raises:
        ConfigError: it asks with a format that is computed.
    """

    def fixed(found: re.Match[str]) -> str:
        return f'"{day.strftime(found["format"])}"'

    replaced = _TODAY.sub(fixed, template)
    if _TODAY_OTHERWISE.search(replaced):
        raise ConfigError(
            "the chat template asks for the date of today in another way than strftime_now('FORMAT'), so that it "
            "cannot be fixed: write it in that way"
        )
    return replaced


def turn_end(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the chat template writes behind a turn of the assistant, without the space around it; empty: nothing.

    Raises:
        CheckpointError: the template fails.
    """
    answer = "an answer of the assistant"
    chat = [{"role": "user", "content": "a question"}, {"role": "assistant", "content": answer}]
    text = in_template(
        Conversation(chat), lambda turns: tokenizer.apply_chat_template(turns, tokenize=False), tokenizer.name_or_path
    )
    return text.rpartition(answer)[2].strip() if answer in text else ""


def in_template(prompt: str, render: Callable[[list[Turn]], Any], name: str) -> str:
    """A prompt, or the turns that it carries, in a chat template.

    Args:
        render: the template.
        name: of the model, for messages.

    Raises:
        CheckpointError: the template raises an error, or leaves out what the user or the system says.
    """
    turns = turns_of(prompt)
    try:
        text = str(render(turns))
        dropped = _left_out(turns, text, render)
    except SafespanError:
        raise
    except Exception as error:  # templates raise errors of every type
        raise CheckpointError(f"{name}: its chat template fails ({first_line(error)[:200]}); {_REMEDY}") from error
    if dropped is not None:
        raise CheckpointError(
            f"{name}: its chat template leaves out what the {dropped['role']} says, given as plain text "
            f"({dropped['content'][:40]!r}); {_REMEDY}"
        )
    return text


def _left_out(turns: list[Turn], text: str, render: Callable[[list[Turn]], Any]) -> Turn | None:
    """The first turn of the user or the system that the text does not depend on."""
    for number, turn in enumerate(turns):
        # A system's words may stand in the template anyway; an assistant's earlier thoughts are cut by design.
        asked = turn["role"] == "system" or (turn["role"] == "user" and turn["content"].strip() not in text)
        if asked and str(render([*turns[:number], {**turn, "content": "other words"}, *turns[number + 1 :]])) == text:
            return turn
    return None
