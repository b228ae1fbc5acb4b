"""How many tokens a model has room for, as its configuration says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FIELDS = ("n_positions", "max_position_embeddings", "n_ctx", "max_seq_len", "model_max_length")
"""Names that Transformers' configurations have for it."""
_WITHOUT = {
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm"), "its state is of one size"),
    "bloom": "ALiBi",
    "xlnet": "relative positions",
    "cpmant": "relative positions",
}
"""Model types without a limit in Transformers, and why; MPT has one, to which its ALiBi is made."""


def context_of(config: Mapping[str, Any]) -> int | None:
    """Tokens that a model has room for; None where its configuration does not say, or where there is no limit.

    Args:
        config: of the language model, as config.json has it.
    """
    if without_limit(config):
        return None
    found = (config.get(name) for name in _FIELDS)
    return next(
        (value for value in found if isinstance(value, int) and not isinstance(value, bool) and value > 0), None
    )


def without_limit(config: Mapping[str, Any]) -> str:
    """Why a model has no limit of its own; empty if it has one."""
    return "ALiBi" if config.get("alibi") is True else _WITHOUT.get(str(config.get("model_type")), "")


def context_in_words(config: Mapping[str, Any]) -> str:
    """What is known of the room, for a reader: a number of tokens and how positions are stretched, or no limit."""
    if reason := without_limit(config):
        return f"no limit ({reason})"
    given = config.get("rope_scaling") or config.get("rope_parameters")
    scaling: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    kind, factor = scaling.get("rope_type", scaling.get("type", "default")), scaling.get("factor")
    stretched = f" (RoPE scaled: {kind}{f' × {factor:g}' if isinstance(factor, int | float) else ''})"
    return f"{context_of(config) or 'not known'}{'' if kind == 'default' else stretched}"


def with_defaults(folder: Path) -> dict[str, Any]:
    """The configuration of a folder's language model with what Transformers fills in; empty if it knows none."""
    from transformers import AutoConfig  # takes seconds

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return dict(config.get_text_config().to_dict())
    except Exception:  # of every type, for a broken or unknown configuration
        return {}
