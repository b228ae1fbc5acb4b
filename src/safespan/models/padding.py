"""The token that fills up the shorter rows of a batch."""

import logging
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

_log = logging.getLogger(__name__)


def fit_pad_token(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Give the tokenizer a pad token that the model has, where it has none, or one beyond the model's embeddings.

    Which one it is changes nothing: padding counts neither in attention nor in a loss.
    """
    size, given, number = embeddings(model), tokenizer.pad_token, tokenizer.pad_token_id
    if number is not None and number < size:
        return
    others = (tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(next((n for n in others if n is not None and n < size), 0))
    if number is not None:
        _log.warning(
            f"{tokenizer.name_or_path}: the pad token {given!r} has number {number}, and the model has {size} "
            f"embeddings; {tokenizer.pad_token!r} pads instead"
        )


def embeddings(model: PreTrainedModel) -> int:
    """Number of tokens that a model has embeddings of."""
    table: Any = model.get_input_embeddings()
    return len(table.weight)
