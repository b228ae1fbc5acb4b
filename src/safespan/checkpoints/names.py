"""Names of weights, whatever wrote them: without those of wrappers, and with that of the model's body."""

import re
from collections.abc import Collection, Mapping
from typing import Any

_WRAPPERS = re.compile(r"^(?:(?:_orig_mod|module)\.)+")
"""What torch.compile and data-parallel training put before every name."""
_BODY = {
    **dict.fromkeys(("bloom", "codegen", "ctrl", "dbrx", "falcon", "gpt-sw3", "gpt2", "gpt_bigcode"), "transformer"),
    **dict.fromkeys(("gpt_neo", "gptj", "mpt", "openai-gpt"), "transformer"),
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba"), "backbone"),
    "gpt_neox": "gpt_neox",
    "opt": "model",
    "biogpt": "biogpt",
}
"""Model type -> the name of the body in Transformers' causal model; `model` of nearly all others."""
_STARTS = ("layers.", "embed_tokens.")
_HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out)\.(?:weight|bias)$")
_TOKENS = re.compile(
    r"(?:^|\.)(?:embed_tokens|wte|embed_in|word_embeddings|tok_embeddings|tokens_embed|backbone\.embeddings)\.weight$"
)

_PREDICTOR = re.compile(r"(?:^|\.)mtp\.")
_BLOCK = re.compile(r"(?:^|\.)layers\.(\d+)\.")


def common_names(stored: Collection[str], model_type: str) -> dict[str, str]:
    """Name -> the name that a file has, of every tensor.

    Files of one model differ in their names if a compiled or wrapped model was saved, or its body alone.
    """
    plain = {_WRAPPERS.sub("", name): name for name in stored}
    if len(plain) < len(stored):
        return {name: name for name in stored}
    body = _BODY.get(model_type, "model" if any(name.startswith(_STARTS) for name in plain) else None)
    if body is None or any(name.startswith(f"{body}.") for name in plain):
        return plain
    return {name if is_head(name) else f"{body}.{name}": found for name, found in plain.items()}


def predictors(names: Collection[str], config: Mapping[str, Any]) -> set[str]:
    """The weights of multi-token prediction, which Transformers does not load: blocks of their own, or behind the last.

    Args:
        config: the model's config.json.
    """
    found = {name for name in names if _PREDICTOR.search(name)}
    blocks, behind = config.get("num_hidden_layers"), config.get("num_nextn_predict_layers")
    if isinstance(blocks, int) and behind:
        found |= {name for name in names if (number := _BLOCK.search(name)) and int(number[1]) >= blocks}
    return found


def is_head(name: str) -> bool:
    """Whether a tensor is of the output head."""
    return _HEAD.search(name) is not None


def is_token_embedding(name: str) -> bool:
    """Whether a tensor is the embedding of tokens."""
    return _TOKENS.search(name) is not None


def is_of_vocabulary(name: str) -> bool:
    """Whether a tensor has a row per token: the embedding, or the output head."""
    return is_head(name) or is_token_embedding(name)
