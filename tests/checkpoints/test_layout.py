"""What is read from tensors' names, by the names that transformers gives them."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from safespan.checkpoints import in_block, layer_of, module_of, natural_order, writes_residual_stream
from safespan.linalg.stacks import matrix_names

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
    sides, shapes = {}, {}
    for name, shape in tensors(architecture).items():
        for matrix in matrix_names(name, shape):
            if side := writes_residual_stream(matrix):
                sides[matrix.removesuffix(".weight")], shapes[matrix.removesuffix(".weight")] = side, shape
    assert set(sides) == WRITERS[architecture]
    for name, side in sides.items():  # the residual stream has 8 dimensions
        assert shapes[name][-2 if side == "output" else -1] == 8
        assert (side == "input") == ("emb" in name or "wte" in name or "wpe" in name)


MODULES = {
    "llama": "embed_tokens q_proj k_proj v_proj o_proj gate_proj up_proj down_proj "
    "input_layernorm post_attention_layernorm norm lm_head",
    "mixtral": "embed_tokens q_proj k_proj v_proj o_proj gate experts.gate_up_proj experts.down_proj "
    "input_layernorm post_attention_layernorm norm lm_head",
    "gpt2": "wte wpe ln_1 ln_1.bias c_attn c_attn.bias attn.c_proj attn.c_proj.bias "
    "ln_2 ln_2.bias c_fc c_fc.bias mlp.c_proj mlp.c_proj.bias ln_f ln_f.bias",
    "bloom": "word_embeddings word_embeddings_layernorm word_embeddings_layernorm.bias input_layernorm "
    "input_layernorm.bias query_key_value query_key_value.bias dense dense.bias post_attention_layernorm "
    "post_attention_layernorm.bias dense_h_to_4h dense_h_to_4h.bias dense_4h_to_h dense_4h_to_h.bias ln_f ln_f.bias",
}


@pytest.mark.parametrize("architecture", MODULES)
def test_the_modules_of_an_architecture_have_short_names(architecture: str) -> None:
    assert list(dict.fromkeys(map(module_of, tensors(architecture)))) == MODULES[architecture].split()


@pytest.mark.parametrize("architecture", sorted({*WRITERS, *MODULES, "gpt_oss", "llama4_text", "qwen2_moe", "bert"}))
def test_no_two_tensors_of_a_layer_are_one_module(architecture: str) -> None:
    names = list(tensors(architecture))
    assert len({(layer_of(name), module_of(name)) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("model.layers.10.mlp.experts.down_proj[7]", "experts.down_proj"),
        ("model.layers.3.mlp.experts.12.down_proj.weight", "experts.down_proj"),
        ("model.layers.3.block_sparse_moe.experts.5.w1.weight", "experts.w1"),
        ("model.layers.3.mlp.shared_expert.down_proj.weight", "shared_expert.down_proj"),
        ("model.language_model.embed_tokens.weight", "embed_tokens"),
        ("lm_head.bias", "lm_head.bias"),
        ("w", "w"),
    ],
)
def test_modules_of_experts_and_of_what_is_in_no_block(name: str, module: str) -> None:
    assert module_of(name) == module


def tensors(architecture: str) -> dict[str, tuple[int, ...]]:
    """Shapes of a small model's tensors, by name."""
    given = SIZE | {"attention_types": [[["global"], 1]]} if architecture == "gpt_neo" else dict(SIZE)
    if architecture == "falcon":
        del given["head_dim"]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **given))
    return {name: tuple(weight.shape) for name, weight in model.named_parameters()}


def test_layers_by_name():
    assert layer_of("model.layers.10.mlp.up_proj.weight") == "layer 10"
    assert layer_of("transformer.h.3.attn.c_attn.weight") == "layer 3"
    assert layer_of("lm_head.weight") == "lm_head"
    assert sorted(["layer 10", "layer 2", "lm_head"], key=natural_order) == ["layer 2", "layer 10", "lm_head"]


@pytest.mark.parametrize(
    ("name", "layer", "of_text"),
    [
        ("model.language_model.layers.3.mlp.up_proj.weight", "layer 3", True),
        ("model.vision_tower.encoder.layers.3.mlp.fc1.weight", "vision layer 3", False),
        ("visual.blocks.3.attn.qkv.weight", "vision layer 3", False),
        ("model.audio_tower.layers.3.fc1.weight", "audio layer 3", False),
        ("mtp.layers.0.mlp.up_proj.weight", "mtp layer 0", False),
    ],
)
def test_towers_and_the_language_model_do_not_share_layers(name: str, layer: str, of_text: bool) -> None:
    assert (layer_of(name), in_block(name)) == (layer, of_text)
