"""GGUF files: a tiny Llama written with gguf's own writer, then converted and held against the model it was made of."""

import shutil
from pathlib import Path

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

import safespan.gguf
from safespan.checkpoints import open_checkpoint
from safespan.errors import CheckpointError
from safespan.gguf import convert_gguf
from safespan.loading import load_causal_lm

TOKENS = ["<unk>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz", "Ġ", "ab", "Ġc"]
TEMPLATE = "{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}"
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
QUANTISED = "model.layers.0.mlp.up_proj.weight"


def tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0,
        tie_word_embeddings=False, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LlamaForCausalLM]:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return path, write(path)


def write(path: Path, without: str = "nothing") -> LlamaForCausalLM:
    """Write a file, and return the model it holds: one matrix of it in 8 bits, the rest in 32."""
    model = tiny_llama()
    writer = GGUFWriter(path, "llama")
    for add, value in [
        (writer.add_context_length, 64), (writer.add_embedding_length, 32), (writer.add_block_count, 2),
        (writer.add_feed_forward_length, 64), (writer.add_head_count, 2), (writer.add_head_count_kv, 2),
        (writer.add_layer_norm_rms_eps, 1e-5), (writer.add_rope_freq_base, 10000.0),
        (writer.add_vocab_size, len(TOKENS)), (writer.add_tokenizer_model, "gpt2"),
        (writer.add_tokenizer_pre, "default"), (writer.add_token_list, TOKENS),
        (writer.add_token_merges, ["a b", "Ġ c"]),
        (writer.add_token_types, [3, 3, 3] + [1] * (len(TOKENS) - 3)), (writer.add_bos_token_id, 1),
        (writer.add_eos_token_id, 2), (writer.add_unk_token_id, 0), (writer.add_chat_template, TEMPLATE),
    ]:  # fmt: skip
        add(value)
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            stored, kind = weight.numpy(), GGMLQuantizationType.F32
            if name == QUANTISED:
                kind = GGMLQuantizationType.Q8_0
                stored = gguf.quants.quantize(stored, kind)
                weight.copy_(torch.from_numpy(gguf.quants.dequantize(stored, kind)))
            if "q_proj" in name or "k_proj" in name:  # a GGUF file pairs the rotated dimensions another way
                stored = stored.reshape(2, 2, 8, 32).swapaxes(1, 2).reshape(32, 32)
            for ours, theirs in NAMES.items():
                name = name.replace(ours, theirs)
            if without not in name:
                writer.add_tensor(name, stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def test_the_weights_and_the_tokenizer_come_through(written, tmp_path, monkeypatch):
    path, expected = written
    shutil.copy(path, tmp_path / "model.gguf")
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "of another model"}')
    monkeypatch.setenv("SAFESPAN_CACHE", str(tmp_path / "cache"))
    checkpoint = open_checkpoint(tmp_path / "model.gguf")
    assert checkpoint.name == str(tmp_path / "model.gguf")
    assert checkpoint.folder.parent == tmp_path / "cache" / "gguf"
    weights = expected.state_dict()
    assert checkpoint.names == sorted(weights)
    for name in checkpoint.names:
        torch.testing.assert_close(checkpoint.load(name), weights[name], atol=1e-7, rtol=0)
    assert not hasattr(AutoConfig.from_pretrained(checkpoint.folder), "quantization_config")
    model, tokenizer = load_causal_lm(checkpoint.folder)
    assert tokenizer.chat_template == TEMPLATE
    ids = tokenizer("ab c", return_tensors="pt", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids[0]) == ["ab", "Ġc"]
    with torch.inference_mode():
        torch.testing.assert_close(model(ids).logits, expected(ids).logits, atol=1e-5, rtol=0)


def test_it_is_converted_once_for_its_content(written, tmp_path, monkeypatch):
    path, _ = written
    first = convert_gguf(path, tmp_path)
    monkeypatch.setattr(safespan.gguf, "AutoModelForCausalLM", None)
    assert convert_gguf(path, tmp_path) == first
    other = tmp_path / path.name
    other.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CheckpointError):
        convert_gguf(other, tmp_path)


@pytest.mark.parametrize("size", [4, 10, 24, 100, 1000, -1000])
def test_cut_off_files(written, size, tmp_path):
    path, _ = written
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"cut\.gguf cannot be read as a GGUF model \(.*\)"):
        convert_gguf(cut, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_file_that_lacks_a_tensor(tmp_path):
    write(tmp_path / "less.gguf", without="blk.1.attn_v")
    with pytest.raises(CheckpointError, match=r"lacks model\.layers\.1\.self_attn\.v_proj\.weight \(1 tensors"):
        convert_gguf(tmp_path / "less.gguf", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_kind_of_model_that_transformers_does_not_read(tmp_path):
    writer = GGUFWriter(tmp_path / "odd.gguf", "nonsense")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match="cannot be read as a GGUF model .*nonsense"):
        convert_gguf(tmp_path / "odd.gguf", tmp_path / "cache")


def test_without_the_package(written, tmp_path, monkeypatch):
    monkeypatch.setattr(safespan.gguf, "is_gguf_available", lambda: False)
    with pytest.raises(CheckpointError, match=r"needs the package gguf: pip install 'safespan\[gguf\]'"):
        convert_gguf(written[0], tmp_path)
