"""What a tensor's name says: which layer it belongs to."""

import re

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
