"""The room that a model has, beside what Transformers' configurations and models say."""

import json

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from safespan.checkpoints import Checkpoint
from safespan.checkpoints.inspection import inspect, lines_of
from safespan.models.context import context_in_words, context_of
from safespan.models.prompt_ids import context_length

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 20}
ROOM = {
    "llama": ({"max_position_embeddings": 48}, 48),
    "gpt2": ({"n_positions": 48}, 48),
    "ctrl": ({"n_positions": 48}, 48),
    "mpt": ({"max_seq_len": 48}, 48),
    "xglm": ({"max_position_embeddings": 48}, 48),
    "falcon": ({"max_position_embeddings": 48, "alibi": False}, 48),
    "bloom": ({}, None),
    "xlnet": ({}, None),
    "mamba": ({}, None),
}


@pytest.mark.parametrize("kind", ROOM)
def test_it_is_what_the_configuration_of_transformers_says(kind):
    fields, room = ROOM[kind]
    config = CONFIG_MAPPING[kind](**fields)
    assert context_length(config) == context_of(config.to_dict()) == room
    words = context_in_words(config.to_dict())
    assert words == "48" if room else words.startswith("no limit (")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("bloom", {"hidden_size": 16, "n_layer": 1, "n_head": 2}),
        ("falcon", {**SIZES, "alibi": True, "max_position_embeddings": 8}),
        ("xlnet", {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 16}),
        ("mamba", {"hidden_size": 16, "num_hidden_layers": 1, "state_size": 4}),
    ],
)
def test_a_model_without_a_limit_reads_more_than_any_number_of_its_configuration(kind, fields):
    config = CONFIG_MAPPING[kind](**fields | {"vocab_size": 20})
    assert context_length(config) is None
    with torch.no_grad():
        assert (
            AutoModelForCausalLM.from_config(config)
            .eval()(torch.ones(1, 3000, dtype=torch.long))
            .logits.isfinite()
            .all()
        )


def test_mpt_reads_no_more_than_it_says():
    config = CONFIG_MAPPING["mpt"](d_model=16, n_heads=2, n_layers=1, vocab_size=20, max_seq_len=8)
    model = AutoModelForCausalLM.from_config(config).eval()
    model(torch.ones(1, 8, dtype=torch.long))
    with pytest.raises(RuntimeError):
        model(torch.ones(1, 9, dtype=torch.long))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "48 (RoPE scaled: linear × 4)"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "48 (RoPE scaled: yarn × 2)"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, "48"),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear"}}}, "48"),
    ],
)
def test_stretched_positions_are_said(given, words):
    assert context_in_words({"model_type": "llama", "max_position_embeddings": 48} | given) == words


def test_what_a_file_leaves_out_is_as_transformers_fills_it_in(tmp_path):
    config = CONFIG_MAPPING["xlnet"](vocab_size=20, d_model=16, n_layer=1, n_head=2, d_inner=16)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "xlnet")
    seen = inspect(Checkpoint(tmp_path / "xlnet"))
    assert (seen.tokens, seen.context) == (20, None)
    assert any("tokens: 20" in line for line in lines_of(seen))
    assert any("context: no limit (relative positions)" in line for line in lines_of(seen))
    config = CONFIG_MAPPING["llama"](**SIZES, intermediate_size=16)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "llama")
    file = tmp_path / "llama" / "config.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if "position" not in k}))
    assert inspect(Checkpoint(tmp_path / "llama")).context == config.max_position_embeddings


EMBEDDED = {
    "biogpt": SIZES | {"intermediate_size": 16, "max_position_embeddings": 16},
    "xlnet": {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 16},
    "ctrl": {"n_embd": 16, "n_layer": 1, "n_head": 2, "dff": 16, "n_positions": 16},
    "rwkv": {"hidden_size": 16, "num_hidden_layers": 2, "attention_hidden_size": 16},
    "openai-gpt": {"n_embd": 16, "n_layer": 1, "n_head": 2},
    "mamba": {"hidden_size": 16, "num_hidden_layers": 1, "state_size": 4},
}


@pytest.mark.parametrize("kind", EMBEDDED)
def test_embedding_and_head_are_those_of_transformers(kind, tmp_path):
    """A head that is stored beside the embedding that it is counts once."""
    config = CONFIG_MAPPING[kind](**EMBEDDED[kind] | {"vocab_size": 20, "tie_word_embeddings": True})
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path / "model")
    checkpoint = Checkpoint(tmp_path / "model")
    assert checkpoint.tokens == 20
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    named = {id(weight): name for name, weight in model.named_parameters()}
    if head is not table:
        assert not checkpoint.tied
        return
    from safetensors.torch import load_file, save_file

    stored = load_file(tmp_path / "model" / "model.safetensors")
    twice = {name for name, one in model.named_parameters(remove_duplicate=False) if one is table}
    [other] = twice - {named[id(table)]}
    both = stored | {other: table.detach().clone(), named[id(table)]: table.detach().clone()}
    save_file(both, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    again = Checkpoint(tmp_path / "model")
    assert again.tied
    assert other not in again.shapes
    assert again.shapes == checkpoint.shapes
