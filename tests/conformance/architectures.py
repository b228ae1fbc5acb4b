"""Tiny random models of many architectures, made by Transformers' own configurations."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedConfig

from tiny_model import build_tiny_tokenizer

D, LAYERS, HEADS = 16, 2, 2
_LLAMA = {
    "hidden_size": D, "intermediate_size": 24, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64,
}  # fmt: skip
_SHORT = {"n_embd": D, "n_layer": LAYERS, "n_head": HEADS, "n_positions": 64}
_OPT = {"hidden_size": D, "ffn_dim": 24, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
_EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12}
_SLIDING = {"sliding_window": 32, "layer_types": ["sliding_attention", "full_attention"]}

FIELDS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "olmo", "olmo2", "granite", "smollm3", "helium"), _LLAMA),
    **dict.fromkeys(("phi", "phi3", "stablelm", "starcoder2", "cohere", "glm", "glm4", "nemotron"), _LLAMA),
    **dict.fromkeys(("persimmon", "seed_oss", "ernie4_5", "apertus", "arcee", "gemma"), _LLAMA),
    "gemma2": _LLAMA | _SLIDING | {"query_pre_attn_scalar": 8},
    "gemma3_text": _LLAMA | _SLIDING | {"query_pre_attn_scalar": 8},
    "exaone4": _LLAMA | _SLIDING,
    "gpt2": _SHORT,
    "openai-gpt": _SHORT,
    "gpt_bigcode": _SHORT,
    "gptj": _SHORT | {"rotary_dim": 4},
    "codegen": {"n_embd": 32, "n_layer": LAYERS, "n_head": 4, "n_positions": 64, "rotary_dim": 4},
    "gpt_neo": {
        "hidden_size": D, "num_layers": LAYERS, "num_heads": HEADS, "max_position_embeddings": 64,
        "attention_types": [[["global", "local"], 1]],
    },
    "gpt_neox": {k: v for k, v in _LLAMA.items() if k not in ("num_key_value_heads", "head_dim")},
    "opt": _OPT | {"word_embed_proj_dim": D, "max_position_embeddings": 64},
    "xglm": {"d_model": D, "ffn_dim": 24, "num_layers": LAYERS, "attention_heads": HEADS},
    "biogpt": {k: v for k, v in _LLAMA.items() if k not in ("num_key_value_heads", "head_dim")},
    "bloom": {"hidden_size": D, "n_layer": LAYERS, "n_head": HEADS},
    "falcon": {"hidden_size": D, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "alibi": False},
    "mpt": {"d_model": D, "n_layers": LAYERS, "n_heads": HEADS, "max_seq_len": 64},
    "mamba": {"hidden_size": D, "num_hidden_layers": LAYERS, "state_size": 4},
    "mamba2": {
        "hidden_size": D, "num_hidden_layers": LAYERS, "state_size": 8, "num_heads": 4, "head_dim": 8, "n_groups": 1,
    },
    "mixtral": {k: v for k, v in _LLAMA.items() if k != "head_dim"} | _EXPERTS,
    "phimoe": {k: v for k, v in _LLAMA.items() if k != "head_dim"} | _EXPERTS,
    "qwen2_moe": _LLAMA | _EXPERTS | {"shared_expert_intermediate_size": 12},
    "qwen3_moe": _LLAMA | _EXPERTS,
    "olmoe": _LLAMA | _EXPERTS,
    "granitemoe": _LLAMA | _EXPERTS,
    "gpt_oss": _LLAMA | _EXPERTS | {"layer_types": ["full_attention"] * LAYERS},
    "llama4_text": _LLAMA | _EXPERTS | {"intermediate_size_mlp": 24, "moe_layers": [0, 1], "num_experts_per_tok": 1},
    "deepseek_v3": {k: v for k, v in _LLAMA.items() if k != "head_dim"} | {
        "num_key_value_heads": HEADS, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2,
        "moe_intermediate_size": 12, "first_k_dense_replace": 1, "q_lora_rank": None, "kv_lora_rank": 8,
        "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
    },
}  # fmt: skip
"""Model type -> fields of its configuration."""

_TOWER = {"hidden_size": D, "intermediate_size": 24, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
_IMAGES = _TOWER | {"image_size": 8, "patch_size": 4}
_QWEN_VISION = {"depth": LAYERS, "num_heads": HEADS, "hidden_size": D, "intermediate_size": 24, "out_hidden_size": D}
_ROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
WRAPPERS: dict[str, dict[str, dict[str, Any]]] = {
    "gemma3": {
        "text_config": _LLAMA | _SLIDING | {"query_pre_attn_scalar": 8}, "vision_config": _IMAGES,
        "others": {"mm_tokens_per_image": 4},
    },
    "qwen2_5_vl": {
        "text_config": _LLAMA | {"rope_parameters": _ROPE},
        "vision_config": _QWEN_VISION | {"fullatt_block_indexes": [1]},
    },
    "qwen3_vl": {
        "text_config": _LLAMA | {"rope_parameters": _ROPE},
        "vision_config": _QWEN_VISION | {"deepstack_visual_indexes": [0]},
    },
    "llava": {
        "text_config": _LLAMA | {"model_type": "llama"},
        "vision_config": _IMAGES | {"model_type": "clip_vision_model"},
    },
    "mistral3": {
        "text_config": _LLAMA | {"model_type": "mistral"},
        "vision_config": _IMAGES | {"model_type": "pixtral", "head_dim": 8},
    },
}  # fmt: skip
"""Model type of a language model with a vision tower -> fields of their configurations, and others."""

KINDS = [*FIELDS, *WRAPPERS]
SHORT = ("llama", "gpt2", "gpt_neox", "mixtral", "gpt_oss", "llama4_text", "opt", "mamba", "qwen2_5_vl")
"""Those that the suite tries; the others are `make conformance`'s."""


class Triple(NamedTuple):
    """Folders of a base, an aligned model and a fine-tune of one architecture."""

    kind: str
    base: Path
    aligned: Path
    tuned: Path


def auto_model(kind: str) -> Any:
    """The class of Transformers that makes a model of this type."""
    return AutoModelForImageTextToText if kind in WRAPPERS else AutoModelForCausalLM


def config_of(kind: str) -> PreTrainedConfig:
    """The configuration of a tiny model whose vocabulary is that of the tiny tokenizer."""
    tokenizer = build_tiny_tokenizer()
    ends = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    known = {"vocab_size": len(tokenizer), "initializer_range": 0.3, **ends}
    if kind not in WRAPPERS:
        return CONFIG_MAPPING[kind](**FIELDS[kind], **known)
    text, vision = (WRAPPERS[kind][f"{part}_config"] for part in ("text", "vision"))
    others = WRAPPERS[kind].get("others", {})
    return CONFIG_MAPPING[kind](text_config=text | known, vision_config=vision, tie_word_embeddings=False, **others)


def make(kind: str, folder: Path) -> Triple:
    """Save three models, each near the one before it."""
    torch.manual_seed(0)
    model, tokenizer = auto_model(kind).from_config(config_of(kind)), build_tiny_tokenizer()
    places = [folder / kind / role for role in ("base", "aligned", "tuned")]
    for place in places:
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.05 * torch.randn_like(weight))
    return Triple(kind, *places)
