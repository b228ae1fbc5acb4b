"""Encoding of examples as token ids and labels."""

from collections.abc import Sequence
from typing import Literal

from transformers import PreTrainedTokenizerBase

from safespan.errors import CheckpointError, DataError
from safespan.models.chat import chat_texts, turn_end
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
) -> list[dict[str, list[int]]]:
    """Token ids and labels of each example; the prompt's labels are ignored, EOS ends the response.

    Prompt and response are tokenised separately, as in generation. An example whose prompt leaves no room for a
    response is left out; a response that is too long is cut, and its end is lost.

    Raises:
        DataError: no example has room for a response.
        CheckpointError: nothing ends a response.
    """
    end = end_ids(tokenizer, prompt_format)
    prompt_ids = _prompt_ids(tokenizer, [example.prompt for example in examples], prompt_format)
    response_ids = tokenizer([example.response for example in examples], add_special_tokens=False)["input_ids"]
    rows = []
    for prompt, response in zip(prompt_ids, response_ids, strict=True):
        labels = [IGNORED] * len(prompt) + response + end
        if len(prompt) < max_length:
            ids = [*prompt, *response, *end]
            rows.append({"input_ids": ids[:max_length], "labels": labels[:max_length]})
    if not rows:
        raise DataError(f"no prompt leaves room for a response within max_length = {max_length} tokens; raise it")
    return rows


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


def _prompt_ids(tokenizer: PreTrainedTokenizerBase, prompts: list[str], prompt_format: str) -> list[list[int]]:
    if prompt_format == "alpaca":
        ids = tokenizer([ALPACA.format(prompt=prompt) for prompt in prompts], add_special_tokens=False)["input_ids"]
        # A chat template contains BOS; here it is added if the tokenizer adds it.
        bos = [tokenizer.bos_token_id]
        return [bos + row for row in ids] if tokenizer("a")["input_ids"][:1] == bos else ids
    return tokenizer(chat_texts(tokenizer, prompts), add_special_tokens=False)["input_ids"]
