"""Encoding of examples as token ids and labels."""

from collections.abc import Sequence
from datetime import date
from typing import Literal

from transformers import PreTrainedTokenizerBase

from safespan.errors import CheckpointError, DataError
from safespan.models.chat import chat_texts, turn_end
from safespan.models.prompt_ids import prompt_ids
from safespan.settings.base import TEMPLATE_DATE
from safespan.training.mixture import Example

IGNORED = -100
"""The label of a token without loss."""

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{prompt}\n\n### Response:\n"
)
"""The published Alpaca format of an instruction without input."""


def encode(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    max_length: int,
    prompt_format: Literal["chat", "alpaca"] = "chat",
    day: date = TEMPLATE_DATE,
) -> list[dict[str, list[int]]]:
    """Token ids and labels of each example; the prompt's labels are ignored, EOS ends the response.

    Prompt and response are tokenised separately, as in generation. An example whose prompt leaves no room for a
    response is left out; a response that is too long is cut, and its end is lost.

    Raises:
        DataError: no example has room for a response.
        CheckpointError: nothing ends a response.
    """
    end = end_ids(tokenizer, prompt_format)
    opened = prompt_ids(tokenizer, _texts(tokenizer, [example.prompt for example in examples], prompt_format, day))
    response_ids = tokenizer([example.response for example in examples], add_special_tokens=False)["input_ids"]
    rows = []
    for prompt, response in zip(opened, response_ids, strict=True):
        labels = [IGNORED] * len(prompt) + response + end
        if len(prompt) < max_length:
            ids = [*prompt, *response, *end]
            rows.append({"input_ids": ids[:max_length], "labels": labels[:max_length]})
    if not rows:
        raise DataError(f"no prompt leaves room for a response within max_length = {max_length} tokens; raise it")
    return rows


def _texts(tokenizer: PreTrainedTokenizerBase, prompts: list[str], prompt_format: str, day: date) -> list[str]:
    if prompt_format == "alpaca":
        return [ALPACA.format(prompt=prompt) for prompt in prompts]
    return chat_texts(tokenizer, prompts, day)


def end_ids(tokenizer: PreTrainedTokenizerBase, prompt_format: str) -> list[int]:
    """The tokens that end a response: EOS, or without one what the chat template writes behind the assistant's turn.

    Raises:
        CheckpointError: there is neither.
    """
    if tokenizer.eos_token_id is not None:
        return [tokenizer.eos_token_id]
    end = turn_end(tokenizer) if prompt_format == "chat" else ""
    if not end:
        raise CheckpointError(
            f"{tokenizer.name_or_path}: the tokenizer has no EOS token, so no response could end; set eos_token in its "
            "tokenizer_config.json"
        )
    return tokenizer(end, add_special_tokens=False)["input_ids"]
