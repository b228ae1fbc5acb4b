"""The layer and the module of a tensor, from its name."""

import re
from typing import Literal

_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer)\.(\d+)\.")
_TOWERS = {
    "vision": re.compile(r"vis(?:ion|ual)|image|patch|siglip|clip"),
    "audio": re.compile(r"audio|speech"),
    "mtp": re.compile(r"(?:^|\.)mtp"),
}
"""What else than the language model has blocks, by the names before them."""


def layer_of(name: str) -> str:
    """Return `layer N` for a tensor of transformer block N, else the tensor's own module (`lm_head`, `model.norm`).

    Blocks are numbered as in the names, from 0. Those of a vision or audio tower, and of multi-token prediction, are
    `vision layer N`, `audio layer N` and `mtp layer N`.
    """
    block = _BLOCK.search(name)
    if block:
        tower = _tower(name[: block.start()])
        return f"{tower} layer {int(block.group(1))}" if tower else f"layer {int(block.group(1))}"
    return name.rpartition(".")[0] or name


def in_block(name: str) -> bool:
    """Whether a tensor is of a block of the language model, and not of its embedding, final norm or output head."""
    return block_of(name) is not None


def block_of(name: str) -> int | None:
    """The number, from 0, of the language model's block that a tensor is of; None for its embedding, norm and head."""
    block = _BLOCK.search(name)
    return int(block.group(1)) if block and _tower(name[: block.start()]) is None else None


def _tower(path: str) -> str | None:
    return next((tower for tower, pattern in _TOWERS.items() if pattern.search(path)), None)


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
