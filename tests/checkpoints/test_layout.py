"""Which matrices write to the residual stream, by the names that transformers gives them."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from safespan.checkpoints import writes_residual_stream
from safespan.updates import matrix_names

SIZE = {
    "vocab_size": 20,
    "hidden_size": 8,
    "intermediate_size": 12,
    "ffn_dim": 12,
    "word_embed_proj_dim": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "moe_intermediate_size": 6,
    "num_local_experts": 2,
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "max_position_embeddings": 16,
    "rotary_dim": 2,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 1,
}

LLAMA = {"model.embed_tokens", "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj"}

WRITERS = {
    **dict.fromkeys(["llama", "qwen2", "qwen3", "mistral", "phi3", "gemma", "gemma2", "gemma3_text"], LLAMA),
    "gpt_neox": {"gpt_neox.embed_in", *(f"gpt_neox.layers.0.{x}" for x in ("attention.dense", "mlp.dense_4h_to_h"))},
    "opt": {
        *("model.decoder.embed_tokens", "model.decoder.embed_positions"),
        *("model.decoder.layers.0.self_attn.out_proj", "model.decoder.layers.0.fc2"),
    },
    "phi": {"model.embed_tokens", "model.layers.0.self_attn.dense", "model.layers.0.mlp.fc2"},
    "falcon": {
        *("transformer.word_embeddings", "transformer.h.0.self_attention.dense"),
        "transformer.h.0.mlp.dense_4h_to_h",
    },
    "gptj": {"transformer.wte", "transformer.h.0.attn.out_proj", "transformer.h.0.mlp.fc_out"},
    "gpt_neo": {
        *("transformer.wte", "transformer.wpe"),
        *("transformer.h.0.attn.attention.out_proj", "transformer.h.0.mlp.c_proj"),
    },
    "mixtral": {
        *LLAMA - {"model.layers.0.mlp.down_proj"},
        *(f"model.layers.0.mlp.experts.down_proj[{i}]" for i in (0, 1)),
    },
}


@pytest.mark.parametrize("architecture", WRITERS)
def test_the_writers_of_the_usual_architectures_and_no_others(architecture: str) -> None:
    given = SIZE | {"attention_types": [[["global"], 1]]} if architecture == "gpt_neo" else dict(SIZE)
    if architecture == "falcon":
        del given["head_dim"]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **given))
    sides, shapes = {}, {}
    for name, weight in model.named_parameters():
        for matrix in matrix_names(name, tuple(weight.shape)):
            if side := writes_residual_stream(matrix):
                sides[matrix.removesuffix(".weight")], shapes[matrix.removesuffix(".weight")] = side, weight.shape
    assert set(sides) == WRITERS[architecture]
    for name, side in sides.items():  # the residual stream has 8 dimensions
        assert shapes[name][-2 if side == "output" else -1] == 8
        assert (side == "input") == ("emb" in name or "wte" in name or "wpe" in name)
