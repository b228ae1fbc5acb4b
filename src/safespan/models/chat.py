"""Prompts in a model's chat template."""

from collections.abc import Callable, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from safespan.data import Conversation, Turn, turns_of
from safespan.errors import CheckpointError, first_line

_REMEDY = "mend chat_template.jinja, or do without it (evaluation.apply_chat_template, prompt_format)"


def chat_texts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[str]:
    """Prompts in the chat template, up to where the assistant's turn begins.

    Raises:
        CheckpointError: as `in_template`.
    """

    def render(turns: list[Turn]) -> Any:
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)

    return [in_template(prompt, render, tokenizer.name_or_path) for prompt in prompts]


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
