"""The matrices of a weight: one, or one per expert of a mixture."""

import re
from collections.abc import Iterator

import torch
from jaxtyping import Float

FUSED_EXPERTS = re.compile(r"\.experts\.(?:gate_up_proj|up_proj|down_proj)$")
"""Names that Transformers has in memory for stacks of experts, which most files hold one by one."""


def matrices(tensor: torch.Tensor) -> Iterator[Float[torch.Tensor, "m n"]]:
    """The m × n matrices of a weight tensor: itself if 2-D, one per expert if 3-D; none if 1-D."""
    if tensor.ndim == 2:
        yield tensor
    elif tensor.ndim == 3:
        yield from tensor


def matrix_names(name: str, shape: tuple[int, ...]) -> list[str]:
    """Names of a tensor's matrices, in the order of `matrices`: `name`, or `name[expert]`; of other shapes none."""
    if len(shape) == 3:
        return [f"{name}[{expert}]" for expert in range(shape[0])]
    return [name] if len(shape) == 2 else []


def unit_rows(tensor: torch.Tensor) -> torch.Tensor:
    """The rows of the matrices of a tensor at length one; rows of zeros, and 1-D tensors, are left as they are."""
    if tensor.ndim < 2:
        return tensor
    lengths = tensor.norm(dim=-1, keepdim=True)
    scaled: torch.Tensor = tensor / lengths.where(lengths > 0, torch.ones_like(lengths))
    return scaled
