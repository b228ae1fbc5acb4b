"""Training under a protected subspace: the update is projected after every optimizer step (METHODS §7)."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env
from peft import PeftModel
from peft.tuners import lora
from transformers import TrainerCallback
from trl.trainer.sft_config import SFTConfig

from safespan.checkpoints.forms import stored_transposed
from safespan.errors import CheckpointError, ConfigError
from safespan.linalg.stacks import matrices
from safespan.models.stored_names import stored_views
from safespan.progress import note
from safespan.projection.protection import ProtectedBases, Protection, check_free_memory
from safespan.settings.names import Keep
from safespan.settings.training import NOT_A_PRODUCT
from safespan.subspaces import Basis

_OF_PEFT = re.compile(r"\.(?:base_layer|modules_to_save\.default)(?=\.)")
"""What PEFT puts into the name of a weight."""


class ProtectedTraining(TrainerCallback):
    """W ← W_s + (I − P)(W − W_s) after each step, or W_s + P (W − W_s) to keep the update inside; W_s is the start.

    Exact to rounding at every step, however many there are: it is the whole update that is projected. Of a LoRA, whose
    update is B·A, B is projected on the outputs and A on the inputs; the optimizer is not touched. A matrix of which
    the claim says nothing trains freely, and vectors are frozen.

    Args:
        model: before its first step, on its device, with its LoRA if it has one; not a resumed one.
        protection: the bases, and where the update is kept.

    Raises:
        CheckpointError: the bases are of another model.
        ConfigError: they do not fit into memory, or a LoRA cannot be kept outside of them.
    """

    def __init__(self, model: torch.nn.Module, protection: Protection) -> None:
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.requires_grad_(False)
        self._held: list[_Held] = []
        if protection.bases is not None:
            bases = ProtectedBases(protection.bases)
            trained = list(_trained(model, bases))
            needed = sum(bases.nbytes(weight.tensor) + weight.copied for weight in trained)
            note(f"protected subspace: {needed / 1e6:,.1f} MB beside the model")
            check_free_memory(needed, next(model.parameters()).device)
            self._held = [held for weight in trained for held in weight.hold(bases, protection.keep)]
        self._project()  # of a LoRA's A, which starts at random numbers; all else starts where it is to be

    def on_step_end(self, *arguments: object, **kwargs: Any) -> None:
        """Project every matrix."""
        self._project()

    @torch.no_grad()
    def _project(self) -> None:
        for held in self._held:
            held.project()


def check_not_sharded(arguments: SFTConfig) -> None:
    """Refuse FSDP and DeepSpeed, under which no process has a whole matrix to project.

    Raises:
        ConfigError: one of them is on.
    """
    sharded = "DeepSpeed" if arguments.deepspeed_plugin is not None else ""
    sharded = sharded or ("FSDP" if parse_flag_from_env("ACCELERATE_USE_FSDP") else "")
    if sharded:
        raise ConfigError(
            f"protect: {sharded} shards the weights, and a projection needs whole matrices: train on one GPU, or on "
            "several that each hold the model (accelerate launch --multi_gpu)"
        )


@dataclass(frozen=True)
class _Held:
    """One weight, or one factor of a LoRA, that is projected.

    Attributes:
        tensor: reads it; another object may stand there after a checkpoint was loaded.
        start: of each matrix that is claimed; none: zero.
        claims: the basis of each matrix.
        keep: where its update is kept.
    """

    tensor: Callable[[], torch.Tensor]
    start: list[torch.Tensor | None]
    claims: list[Basis | None]
    keep: Keep

    def project(self) -> None:
        for matrix, start, basis in zip(matrices(self.tensor()), self.start, self.claims, strict=True):
            if basis is None:
                continue
            change = matrix if start is None else matrix - start
            inside = basis.parallel(basis.coefficients(change), max(change.shape))
            kept = inside if self.keep == "inside" else change - inside
            matrix.copy_(kept if start is None else start + kept)


@dataclass(frozen=True)
class _Trained:
    """A claimed weight that is trained: whole, or by a LoRA.

    Attributes:
        tensor: its name in the checkpoint.
        read: the weight, outputs × inputs.
        layer: its layer, if a LoRA is trained.
    """

    tensor: str
    read: Callable[[], torch.Tensor]
    layer: lora.LoraLayer | None

    @property
    def copied(self) -> int:
        """Bytes of the copy of its start."""
        return 0 if self.layer else self.read().nbytes

    def hold(self, bases: ProtectedBases, keep: Keep) -> Iterator[_Held]:
        weight = self.read()
        claims = bases.claims(self.tensor, weight.device)
        if self.layer is None:
            pairs = zip(matrices(weight), claims, strict=True)
            yield _Held(self.read, [matrix.clone() if basis else None for matrix, basis in pairs], claims, keep)
            return
        if isinstance(self.layer, lora.ParamWrapper):
            raise ConfigError(
                f"protect: the LoRA of {self.tensor} is one of fused experts, whose factors are not those of a matrix: "
                "leave the experts out (lora.target_modules), or train the whole model"
            )
        [basis] = claims
        assert basis is not None
        if keep == "outside" and basis.left is not None and basis.right is not None:
            raise ConfigError(f"protect: {self.tensor}: {NOT_A_PRODUCT}")
        if basis.left is not None:
            yield _Held(partial(_factor, self.layer, "outputs"), [None], [Basis(basis.left, None)], keep)
        if basis.right is not None:
            yield _Held(partial(_factor, self.layer, "inputs"), [None], [Basis(None, basis.right)], keep)


def _factor(layer: Any, side: str) -> torch.Tensor:
    """The factor of a LoRA's update on one side of the weight, [m, r] of its outputs or [r, n] of its inputs.

    The update of an embedding is AᵀBᵀ.
    """
    [adapter] = layer.active_adapters
    if isinstance(layer, lora.Embedding):
        a, b = layer.lora_embedding_A[adapter].data, layer.lora_embedding_B[adapter].data
    else:
        a, b = layer.lora_A[adapter].weight.data, layer.lora_B[adapter].weight.data
    if isinstance(layer, lora.Embedding):
        a, b = b.T, a.T
    return b if side == "outputs" else a


def _trained(model: torch.nn.Module, bases: ProtectedBases) -> Iterator[_Trained]:
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
            read = partial(_data, body, name, (view.shape, view.stride(), view.storage_offset()), flipped)
            yield _Trained(tensor, read, None if parameters[name].requires_grad else layer)
    if missing := sorted(claimed - found.keys()):
        raise CheckpointError(
            f"{bases.path} has bases of {missing[0]}, and the model no weight of that name: Transformers has other "
            "names for the tensors of such a checkpoint, or the bases are of another model"
        )


def _in_checkpoint(name: str, claimed: set[str]) -> str | None:
    """The claimed tensor of that name; checkpoints are saved with or without the name of the model's body before it."""
    known = (name, name.partition(".")[2], f"model.{name}", f"transformer.{name}")
    return next((other for other in known if other in claimed), None)


def _data(model: torch.nn.Module, name: str, view: tuple[Any, ...], flipped: bool) -> torch.Tensor:
    """A weight as outputs × inputs; what is written into it is written into the model.

    Args:
        view: shape, strides and offset of what files hold of the weight in memory.
    """
    stored = model.get_parameter(name).data.as_strided(*view)
    return stored.mT if flipped else stored
