"""The inputs of every weight matrix at the last token of each prompt, under the names that files have."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from safespan.activations.capture import at_last_token
from safespan.checkpoints.forms import stored_transposed
from safespan.linalg.stacks import matrices
from safespan.models.stored_names import StoredMatrices, stored_views

_ROUTERS = ("Router", "Gate")
"""Ends of the names of classes that multiply a token with their weight to choose its experts."""


class WeightInputs:
    """Catches inputs while a model runs.

    Of a matrix of one expert they are those of the prompts whose last token is given to it; other experts have none.

    Args:
        model: a decoder-only model.

    Attributes:
        rows: name of a matrix -> its inputs so far, [n_prompts, n] for each batch.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.rows: dict[str, list[torch.Tensor]] = defaultdict(list)
        stored = StoredMatrices(stored_views(model))
        self._names = {
            id(weight): names
            for weight in model.parameters()
            if weight.ndim in (2, 3) and (names := [stored.within(matrix) for matrix in matrices(weight)])
        }
        self._modules = list(model.modules())
        self._transposed = stored_transposed(model.config.model_type, ".experts.down_proj")

    @contextmanager
    def of_batch(self, mask: Int[torch.Tensor, "B T"]) -> Iterator[None]:
        """Catch the inputs of one batch with this attention mask."""
        hooks = list[RemovableHandle]()
        for module in self._modules:
            if _multiplies(module):
                hooks.append(module.register_forward_pre_hook(partial(self._of_matrix, mask)))
            elif _is_experts(module):
                hooks.append(module.register_forward_pre_hook(partial(self._of_experts, mask), with_kwargs=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _of_matrix(self, mask: torch.Tensor, module: Any, args: tuple[Any, ...]) -> None:
        rows = _last(args[0], mask) if args else None
        if rows is not None:
            for name in self._names.get(id(module.weight), [[]])[0]:
                self.rows[name].append(rows)

    def _of_experts(self, mask: torch.Tensor, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = [*args, *kwargs.values()]
        count = len(module.down_proj)
        if len(given) > 1:  # all tokens, and the numbers of their experts
            hidden, chosen = _last(given[0], mask), _last(given[1], mask)
            if hidden is None or chosen is None:
                return
            by_expert = [hidden[(chosen == expert).any(1)] for expert in range(count)]
        else:  # all tokens once an expert, zeros where it is not theirs
            parts = [_last(part, mask) for part in given[0].view(count, -1, given[0].shape[-1])]
            by_expert = [part[part.any(1)] for part in parts if part is not None]
        first = module.gate_up_proj if hasattr(module, "gate_up_proj") else module.up_proj
        for expert, rows in enumerate(by_expert):
            if len(rows):
                between = _between(module, first, expert, rows, self._transposed)
                for weight, caught in ((first, rows), (module.down_proj, between)):
                    for name in self._names.get(id(weight), [[]] * count)[expert]:
                        self.rows[name].append(caught)

    def joined(self) -> dict[str, Float[torch.Tensor, "N n"]]:
        """All inputs, prompts in the order in which they ran."""
        return {name: torch.cat(rows).contiguous() for name, rows in self.rows.items()}


def _multiplies(module: torch.nn.Module) -> bool:
    """Whether a module multiplies its input with its weight."""
    router = type(module).__name__.endswith(_ROUTERS) and getattr(getattr(module, "weight", None), "ndim", 0) == 2
    return router or isinstance(module, torch.nn.Linear | Conv1D)


def _is_experts(module: torch.nn.Module) -> bool:
    """Whether a module holds all experts of a mixture in stacks, as Transformers fuses them."""
    weights = dict(module.named_parameters(recurse=False))
    stacks = [name for name in ("gate_up_proj", "up_proj", "down_proj") if name in weights and weights[name].ndim == 3]
    return "down_proj" in stacks and len(stacks) > 1 and "gate_proj" not in weights


def _last(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor | None:
    """The rows at the last token of each prompt; None of what is neither [B, T, n] nor [B · T, n]."""
    if hidden.ndim == 2 and len(hidden) == mask.numel():
        hidden = hidden.view(*mask.shape, -1)
    return at_last_token(hidden, mask) if hidden.ndim == 3 and hidden.shape[:2] == mask.shape else None


@torch.no_grad()
def _between(module: Any, first: torch.Tensor, expert: int, rows: torch.Tensor, transposed: bool) -> torch.Tensor:
    """What an expert's first matrix and its activation make of its inputs: the inputs of its second."""
    made = rows.to(first) @ (first[expert] if transposed else first[expert].T)
    bias = getattr(module, "gate_up_proj_bias", getattr(module, "up_proj_bias", None))
    made = made if bias is None else made + bias[expert]
    if not hasattr(module, "gate_up_proj"):
        between: torch.Tensor = module.act_fn(made)
    elif hasattr(module, "_apply_gate"):
        between = module._apply_gate(made)
    else:
        gate, up = made.chunk(2, dim=-1)
        between = up * module.act_fn(gate)
    return between.float().cpu()
