"""What a tensor's name says: which layer it belongs to."""

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
    """The side of a weight matrix that lies in the residual stream: what attention and MLP put out, embeddings' rows.

    None of a matrix that does not write to it. By the usual names, in the layout of `torch.nn.Linear` (out × in): not
    for GPT-2, whose `Conv1D` keeps weights as in × out under the names of others' linear layers, nor for the fused
    experts of Llama 4 and gpt-oss, which are in × out too.
    """
    if _EMBEDDINGS.search(name):
        return "input"
    return "output" if _WRITERS.search(name) else None
