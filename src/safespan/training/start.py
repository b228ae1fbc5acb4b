"""The model that a training starts from, and its tokenizer's special tokens."""

import logging
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safespan.checkpoints import Checkpoint, open_checkpoint
from safespan.errors import CheckpointError, ConfigError
from safespan.models.loading import load_causal_lm
from safespan.models.padding import embeddings
from safespan.models.prompt_ids import context_length
from safespan.settings.training import TrainingConfig
from safespan.training.encoding import end_ids

_log = logging.getLogger(__name__)


def open_start(start: str | Path, config: TrainingConfig) -> Checkpoint:
    """The model that is trained from.

    Raises:
        SafespanError: it cannot be opened, or a LoRA cannot stand on it.
    """
    checkpoint = open_checkpoint(start)
    if checkpoint.adapter and config.lora and not config.lora.merge:
        raise ConfigError(f"{start}: an adapter cannot stand on another adapter; set lora.merge to true")
    return checkpoint


def load_start(checkpoint: Checkpoint, config: TrainingConfig) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """The tokenizer and the model, in fp32.

    Raises:
        CheckpointError: it cannot be loaded, or has no chat template where one is needed.
    """
    # The trainer moves the model to its device, or a shard of it.
    model, tokenizer = load_causal_lm(checkpoint.folder.resolve(), torch.float32, checkpoint.adapter, device="cpu")
    check_template(tokenizer, config)
    return tokenizer, model


def check_template(tokenizer: PreTrainedTokenizerBase, config: TrainingConfig) -> None:
    """Refuse a tokenizer without the chat template that its training needs.

    Raises:
        CheckpointError: it has none.
    """
    if tokenizer.chat_template is None and config.prompt_format == "chat":
        raise CheckpointError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat template; start from a chat or instruct model, "
            "or set prompt_format to alpaca"
        )


def end_of_responses(tokenizer: PreTrainedTokenizerBase, config: TrainingConfig) -> list[int]:
    """The tokens that end a response; a warning where they are not EOS."""
    end = end_ids(tokenizer, config.prompt_format)
    if tokenizer.eos_token_id is None:
        _log.warning(
            f"{tokenizer.name_or_path}: the tokenizer has no EOS token; responses end with {tokenizer.decode(end)!r}, "
            "as in its chat template; for generation to end there, set eos_token in its tokenizer_config.json"
        )
    return end


def longest_row(model: PreTrainedModel, config: TrainingConfig) -> int:
    """Tokens of the longest row: `max_length`, but no more than the model's context."""
    room = context_length(model.config)
    return config.max_length if room is None else min(config.max_length, room)


def check_tokens(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, rows: list[dict[str, list[int]]]) -> None:
    """Refuse rows with a token that the model does not have.

    Raises:
        CheckpointError: names it.
    """
    size, highest = embeddings(model), max(max(row["input_ids"]) for row in rows)
    if highest >= size:
        raise CheckpointError(
            f"{tokenizer.name_or_path}: the tokenizer gives token {highest} "
            f"({tokenizer.convert_ids_to_tokens(highest)!r}), and the model has {size} embeddings; take the tokenizer "
            "that belongs to the model"
        )
