"""A tiny Llama as a GGUF file, written with gguf's own writer."""

from pathlib import Path

import gguf
import torch
from gguf import GGMLQuantizationType, GGUFEndian, GGUFWriter
from transformers import LlamaConfig, LlamaForCausalLM

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


def write_gguf(path: Path, without: str = "nothing", endianess: GGUFEndian = GGUFEndian.LITTLE) -> LlamaForCausalLM:
    """Write a file, and return the model it holds: one matrix of it in 8 bits, the rest in 32."""
    model = tiny_llama()
    writer = GGUFWriter(path, "llama", endianess=endianess)
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
