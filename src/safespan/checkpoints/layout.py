"""The layer and the module of a tensor, from its name."""

import re
from typing import Literal

_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer)\.(\d+)\.")


def layer_of(name: str) -> str:
    """Return `layer N` for a tensor of transformer block N, else the tensor's own module (`lm_head`, `model.norm`).

    Blocks are numbered as in the names, from 0.
    """
    block = _BLOCK.search(name)
    if block:
        return f"layer {int(block.group(1))}"
    return name.rpartition(".")[0] or name


def in_block(name: str) -> bool:
    """Whether a tensor is of a transformer block, and not of the embedding, the final norm or the output head."""
    return _BLOCK.search(name) is not None


_PARENTS = re.compile(
    r"^(?:(?:self_attn|self_attention|attn|attention|mlp|ffn|feed_forward|block_sparse_moe)\.)+"
    r"(?!c_proj\b)(?=[^.]+(?:\.bias)?$|experts\.|shared_experts?\.)"  # in GPT-2, attention and MLP both have a c_proj
)


def module_of(name: str) -> str:
    """Return the kind of module a tensor is of, the same in every block: `q_proj`, `experts.down_proj`, `lm_head`.

    The prefix up to the block's number, the expert's number and `.weight` are removed, and also the part of the block
    (`self_attn`, `mlp`) where the rest is unambiguous; biases keep their `.bias`.
    """
    block = _BLOCK.search(name)
    path = re.sub(r"\[\d+\]$", "", name).removesuffix(".weight")
    if not block:
        return re.sub(r"^.*\.(?!bias$)", "", path)
    return _PARENTS.sub("", re.sub(r"\bexperts\.\d+\.", "experts.", path[block.end() :]))


def natural_order(name: str) -> list[str | int]:
    """Sort key under which `layer 2` comes before `layer 10`."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


_WRITERS = re.compile(
    r"\.(?:o_proj|out_proj|down_proj|dense|dense_4h_to_h|c_proj|fc_out|fc2|wo|w2)\.weight$"
    r"|\.experts\.down_proj(?:\[\d+\])?$"
)
_EMBEDDINGS = re.compile(
    r"(?:^|\.)(?:embed_tokens|embed_positions|wte|wpe|embed_in|word_embeddings|tok_embeddings)\.weight$"
)


def writes_residual_stream(name: str) -> Literal["output", "input"] | None:
    """The side of a weight matrix that lies in the residual stream: outputs of attention and MLP, rows of embeddings.

    None for a matrix that does not write to it. Recognised by the usual names, in the layout of `torch.nn.Linear`
    (out × in). Wrong for GPT-2, whose `Conv1D` has the same names with weights in × out, and for the fused experts of
    Llama 4 and gpt-oss, which are in × out too.
    """
    if _EMBEDDINGS.search(name):
        return "input"
    return "output" if _WRITERS.search(name) else None
