"""How architectures store their weights, and the form that everything else sees.

That form is a matrix of outputs × inputs, a stack of such matrices (one per expert), or a vector. `torch.nn.Linear`
stores matrices so; the architectures of `_IN_BY_OUT` store some of them transposed.
tests/checkpoints/test_forms.py compares the table with the modules of Transformers.
"""

import math
import re
from dataclasses import dataclass

import torch

from safespan.linalg.stacks import FUSED_EXPERTS

_CONV1D = r"\.(?:c_attn|q_attn|c_proj|c_fc)\.weight$"
_EXPERTS = r"\.experts\.(?:gate_up_proj|down_proj|fc[12]\.weight)$"
_IN_BY_OUT = {
    **dict.fromkeys(("gpt2", "gpt-sw3", "openai-gpt", "imagegpt", "decision_transformer"), _CONV1D),
    **dict.fromkeys(("gpt_oss", "llama4", "llama4_text", "aria", "aria_text", "openai_privacy_filter"), _EXPERTS),
}
"""Model type -> the names of its weights that are stored inputs × outputs."""
_EITHER = ("qwen3_vl_moe", "qwen3_vl_moe_text")
"""Model types whose experts are inputs × outputs in some files; Transformers tells by their shape, and turns those."""

UNKNOWN = ("dbrx",)
"""Model types whose matrices are not told apart: DBRX stores the experts of a block below one another, one turned."""

_STACKS = re.compile(r"expert|(?:^|\.)(?:input_linear|output_linear)\.weight$")
"""Names of three-dimensional weights that are stacks of matrices: one per expert of a mixture."""
_VECTORS = re.compile(r"(?:\.|_)bias$|(?:^|\.)(?:A_log|D|dt_bias)$")
"""Names of what is added or multiplied entry by entry, whatever its shape."""
_BUFFERS = re.compile(r"(?:^|\.)(?:rotary_emb\.inv_freq|attn\.masked_bias|attention\.masked_bias|position_ids)$")
_MASK = re.compile(r"(?:^|\.)(?:attn|attention)\.bias$")


@dataclass(frozen=True)
class Form:
    """A weight as it is stored, and as it is seen.

    Attributes:
        stored: shape in the file.
        seen: [m, n] of outputs × inputs, [E, m, n] of a stack, or [n] of a vector.
        transposed: whether the last two dimensions are exchanged.
    """

    stored: tuple[int, ...]
    seen: tuple[int, ...]
    transposed: bool

    def read(self, tensor: torch.Tensor) -> torch.Tensor:
        """The stored tensor as it is seen."""
        return tensor.mT.contiguous() if self.transposed else tensor.reshape(self.seen)

    def write(self, tensor: torch.Tensor) -> torch.Tensor:
        """What is seen, as it is stored."""
        return tensor.mT.contiguous() if self.transposed else tensor.reshape(self.stored)


def form_of(model_type: str, name: str, shape: tuple[int, ...], width: int | None = None) -> Form | None:
    """The form of one weight; None for what is left out: constants, and weights of more than three dimensions.

    Args:
        model_type: of the configuration.
        name: of the weight.
        shape: as stored.
        width: of the residual stream, by which the orientation is known where files differ in it.
    """
    by_entry = _VECTORS.search(name) or (len(shape) == 3 and not _STACKS.search(name))
    if is_constant(name, shape) or (len(shape) > 3 and not by_entry):
        return None
    if by_entry or len(shape) < 2:
        return Form(shape, (math.prod(shape),), False)
    if stored_transposed(model_type, name) or (model_type in _EITHER and _turned(name, shape, width)):
        return Form(shape, (*shape[:-2], shape[-1], shape[-2]), True)
    return Form(shape, shape, False)


def _turned(name: str, shape: tuple[int, ...], width: int | None) -> bool:
    """Whether experts are stored inputs × outputs, by which of their sides is that of the residual stream."""
    if len(shape) != 3 or not FUSED_EXPERTS.search(name):
        return False
    stream, other = (shape[1], shape[2]) if name.endswith("up_proj") else (shape[2], shape[1])
    return stream == width != other


def is_constant(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor is a constant that older versions of Transformers stored beside the weights."""
    return bool(_BUFFERS.search(name) or (len(shape) == 4 and _MASK.search(name)))


def stored_transposed(model_type: str, name: str) -> bool:
    """Whether a weight matrix, or a stack, is stored inputs × outputs."""
    pattern = _IN_BY_OUT.get(model_type)
    return pattern is not None and re.search(pattern, name) is not None


def is_fused(model_type: str, name: str, shape: tuple[int, ...]) -> bool:
    """Whether a weight may be experts as Transformers has them in memory, and not as its files do."""
    return len(shape) == 3 and FUSED_EXPERTS.search(name) is not None and not stored_transposed(model_type, name)
