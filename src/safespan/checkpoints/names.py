"""Names of weights, whatever wrote them: without those of wrappers, and with that of the model's body."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from safespan.checkpoints.layout import in_block, layer_of

_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_PARALLEL = re.compile(r"^(?:module\.)+")
"""What torch.compile, sharded and checkpointed training put before the names of modules, and data-parallel training
before every name."""
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
_HEAD = re.compile(r"(?:(?:^|\.)(?:lm_head|embed_out)|^(?:lm_loss|output_projection|head|decoder))\.(?:weight|bias)$")
_TOKENS = re.compile(
    r"(?:^|\.)(?:embed_tokens|wte|embed_in|word_embeddings?|tok_embeddings|tokens_embed|transformer\.w|input_embedding"
    r"|(?:backbone|rwkv|model)\.embeddings)\.weight$"
)

_PREDICTOR = re.compile(r"(?:^|\.)mtp\.")
_BLOCK_COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
"""Fields of a configuration that say how many blocks there are; the largest counts, where some count other things."""


def common_names(stored: Collection[str], model_type: str) -> dict[str, str]:
    """Name -> the name that a file has, of every tensor.

    Files of one model differ in their names if a compiled or wrapped model was saved, or its body alone.
    """
    plain = {_PARALLEL.sub("", _WRAPPERS.sub("", name)): name for name in stored}
    if len(plain) < len(stored):
        return {name: name for name in stored}
    body = _BODY.get(model_type, "model" if any(name.startswith(_STARTS) for name in plain) else None)
    if body is None or any(name.startswith(f"{body}.") for name in plain):
        return plain
    return {name if is_head(name) else f"{body}.{name}": found for name, found in plain.items()}


def not_loaded(names: Collection[str], config: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """The weights that Transformers does not load: those of multi-token prediction, and other blocks behind the last.

    Predictors of further tokens are blocks of their own, or stand behind the last if the configuration has any.

    Args:
        names: of stored weights.
        config: the model's config.json.
    """
    text = config.get("text_config")
    said = {**config, **(text if isinstance(text, dict) else {})}
    counts = [count for field in _BLOCK_COUNTS if isinstance(count := said.get(field), int)]
    numbers = {name: int(layer_of(name).removeprefix("layer ")) for name in names if in_block(name)}
    behind = {name for name, number in numbers.items() if counts and number >= max(counts)}
    of_tokens = {name for name in names if _PREDICTOR.search(name)}
    return (of_tokens | behind, set()) if said.get("num_nextn_predict_layers") else (of_tokens, behind - of_tokens)


def is_head(name: str) -> bool:
    """Whether a tensor is of the output head."""
    return _HEAD.search(name) is not None


def is_token_embedding(name: str) -> bool:
    """Whether a tensor is the embedding of tokens."""
    return _TOKENS.search(name) is not None


def is_of_vocabulary(name: str) -> bool:
    """Whether a tensor has a row per token: the embedding, or the output head."""
    return is_head(name) or is_token_embedding(name)
