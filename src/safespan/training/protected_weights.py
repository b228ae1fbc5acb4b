"""The weights that a claim speaks of, in a model that is about to be trained: whole ones, and those of a LoRA."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft import PeftModel
from peft.tuners import lora

from safespan.checkpoints.forms import stored_transposed
from safespan.errors import CheckpointError, ConfigError
from safespan.models.stored_names import stored_views
from safespan.projection.protected_file import ProtectedBases

_OF_PEFT = re.compile(r"\.(?:base_layer|modules_to_save\.default)(?=\.)")
"""What PEFT puts into the name of a weight."""


@dataclass(frozen=True)
class TrainedWeight:
    """A claimed weight that is trained: whole, or by a LoRA.

    Attributes:
        tensor: its name in the checkpoint.
        parameter: gives it as it is in memory; another object may stand there after a checkpoint was loaded.
        view: what files hold of a tensor in the form of the parameter, outputs × inputs.
        layer: its layer, if a LoRA is trained.
    """

    tensor: str
    parameter: Callable[[], torch.nn.Parameter]
    view: Callable[[torch.Tensor], torch.Tensor]
    layer: Any

    def read(self) -> torch.Tensor:
        """The weight, outputs × inputs; what is written into it is written into the model."""
        return self.view(self.parameter().data)

    @property
    def copied(self) -> int:
        """Bytes of the copy of its start."""
        return 0 if self.layer else self.read().nbytes

    def check_factors(self) -> None:
        """Raise ConfigError where a LoRA's factors are not those of a matrix."""
        if isinstance(self.layer, lora.ParamWrapper):
            raise ConfigError(
                f"protect: the LoRA of {self.tensor} is one of fused experts, whose factors are not those of a matrix: "
                "leave the experts out (lora.target_modules), or train the whole model"
            )


def adapter_factors(layer: Any) -> tuple[torch.nn.Parameter, torch.nn.Parameter, bool]:
    """B and A as a LoRA has them, and whether its update is AᵀBᵀ, as that of an embedding is."""
    [adapter] = layer.active_adapters
    if isinstance(layer, lora.Embedding):
        return layer.lora_embedding_B[adapter], layer.lora_embedding_A[adapter], True
    return layer.lora_B[adapter].weight, layer.lora_A[adapter].weight, False


def factor(layer: Any, side: str) -> torch.Tensor:
    """The factor of a LoRA's update on one side of the weight, [m, r] of its outputs or [r, n] of its inputs."""
    b, a, flipped = adapter_factors(layer)
    outputs, inputs = (a.data.T, b.data.T) if flipped else (b.data, a.data)
    return outputs if side == "outputs" else inputs


def trained_weights(model: torch.nn.Module, bases: ProtectedBases) -> Iterator[TrainedWeight]:
    """The claimed weights that are trained; tied ones once.

    Raises:
        CheckpointError: the model lacks one that is claimed, or it has another shape.
    """
    body: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    claimed, found, config = set(bases.tensors), dict[str, None](), getattr(body, "config", None)
    parameters = dict(body.named_parameters(remove_duplicate=False))
    name_of = {weight.untyped_storage().data_ptr(): name for name, weight in parameters.items()}
    views = stored_views(body, {_OF_PEFT.sub("", name): weight.data for name, weight in parameters.items()})
    seen: set[tuple[int, ...]] = set()
    for stored_name, view in views.items():
        tensor, place = _in_checkpoint(stored_name, claimed), (view.data_ptr(), *view.shape)
        if tensor is None or place in seen:
            continue
        seen.add(place)
        found[tensor] = None
        flipped = stored_transposed(str(getattr(config, "model_type", "")), tensor)
        bases.check_fits(tensor, tuple(view.mT.shape if flipped else view.shape))
        name = name_of[view.untyped_storage().data_ptr()]
        layer = body.get_submodule(name.rpartition(".base_layer.")[0]) if ".base_layer." in name else None
        if parameters[name].requires_grad or isinstance(layer, lora.LoraLayer):
            part = partial(_part, view=(view.shape, view.stride(), view.storage_offset()), flipped=flipped)
            whole = parameters[name].requires_grad
            yield TrainedWeight(tensor, partial(body.get_parameter, name), part, None if whole else layer)
    if missing := sorted(claimed - found.keys()):
        raise CheckpointError(
            f"{bases.path} has bases of {missing[0]}, and the model no weight of that name: Transformers has other "
            "names for the tensors of such a checkpoint, or the bases are of another model"
        )


def _in_checkpoint(name: str, claimed: set[str]) -> str | None:
    """The claimed tensor of that name; checkpoints are saved with or without the name of the model's body before it."""
    known = (name, name.partition(".")[2], f"model.{name}", f"transformer.{name}")
    return next((other for other in known if other in claimed), None)


def _part(tensor: torch.Tensor, view: tuple[Any, ...], flipped: bool) -> torch.Tensor:
    """What files hold of a tensor in memory, outputs × inputs; `view` is its shape, strides and offset there."""
    stored = tensor.as_strided(*view)
    return stored.mT if flipped else stored
