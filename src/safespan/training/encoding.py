"""Encoding of examples as token ids and labels."""

from collections.abc import Sequence
from datetime import date
from typing import Literal

from transformers import PreTrainedTokenizerBase

from safespan.errors import DataError
from safespan.models.prompting import chat_texts, prompt_ids
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
    response is left out.

    Raises:
        DataError: no example has room for a response.
    """
    opened = prompt_ids(tokenizer, _texts(tokenizer, [example.prompt for example in examples], prompt_format, day))
    response_ids = tokenizer([example.response for example in examples], add_special_tokens=False)["input_ids"]
    rows = []
    for prompt, response in zip(opened, response_ids, strict=True):
        labels = [IGNORED] * len(prompt) + response + [tokenizer.eos_token_id]
        if len(prompt) < max_length:
            ids = [*prompt, *response, tokenizer.eos_token_id]
            rows.append({"input_ids": ids[:max_length], "labels": labels[:max_length]})
    if not rows:
        raise DataError(f"no prompt leaves room for a response within max_length = {max_length} tokens; raise it")
    return rows


def _texts(tokenizer: PreTrainedTokenizerBase, prompts: list[str], prompt_format: str, day: date) -> list[str]:
    if prompt_format == "alpaca":
        return [ALPACA.format(prompt=prompt) for prompt in prompts]
    return chat_texts(tokenizer, [[{"role": "user", "content": prompt}] for prompt in prompts], day)
