"""Training under a claim (METHODS §7): each step's update is projected or penalised, or blocks are frozen."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env
from peft.tuners import lora
from transformers import TrainerCallback
from trl.trainer.sft_config import SFTConfig

from safespan.errors import ConfigError
from safespan.linalg.stacks import matrices
from safespan.progress import note
from safespan.projection.protected_file import ProtectedBases
from safespan.projection.protection import Protection, check_free_memory
from safespan.settings.names import Keep
from safespan.settings.training import NOT_A_PRODUCT
from safespan.subspaces import Basis
from safespan.training.penalty import Penalised, penalised
from safespan.training.protected_weights import TrainedWeight, adapter_factors, factor, trained_weights


class ProtectedTraining(TrainerCallback):
    """What a claim asks of each step. Vectors are frozen, and a matrix that it does not speak of trains freely.

    Of a subspace: W ← W_s + (I − P)(W − W_s) after each step, or W_s + P (W − W_s) to keep the update inside; W_s is
    the start. Exact to rounding at every step, however many there are: it is the whole update that is projected. Of a
    LoRA, whose update is B·A, B is projected on the outputs and A on the inputs; the optimizer is not touched.

    Of a penalty: its gradient at the weights of the step stands in `grad` before the step's first backward pass. So it
    counts once a step, whatever the number of accumulated passes, and is clipped with the rest.

    Of blocks: their weights are frozen; of a LoRA, B is zero after each step.

    Args:
        model: before its first step, on its device, with its LoRA if it has one; not a resumed one.
        protection: the file, and where the update is kept.

    Raises:
        CheckpointError: the file is of another model.
        ConfigError: it does not fit into memory, or a LoRA cannot be held to it.
    """

    def __init__(self, model: torch.nn.Module, protection: Protection) -> None:
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.requires_grad_(False)
        self._held: Sequence[_Held | _Zero] = []
        self._penalised: list[Penalised] = []
        self._penalty = 0.0
        if protection.bases is not None:
            self._hold(model, ProtectedBases(protection.bases), protection.keep)
        self._project()  # of a LoRA's A, which starts at random numbers; all else starts where it is to be

    def _hold(self, model: torch.nn.Module, bases: ProtectedBases, keep: Keep) -> None:
        about, trained = bases.about, list(trained_weights(model, bases))
        if keep == "inside" and (about.frozen or about.penalty is not None):
            raise ConfigError(f"keep: {bases.path} is of no subspace, and has no inside: leave keep out")
        if about.frozen:
            self._held = _frozen(model, trained)
            return
        needed = sum(bases.nbytes(weight.tensor) + weight.copied for weight in trained)
        note(f"{'protected subspace' if about.penalty is None else 'penalty'}: {needed / 1e6:,.1f} MB beside the model")
        check_free_memory(needed, next(model.parameters()).device)
        if about.penalty is not None:
            self._penalty, self._penalised = about.penalty, [penalised(weight, bases) for weight in trained]
        else:
            self._held = [held for weight in trained for held in _hold(weight, bases, keep)]

    def on_step_begin(self, *arguments: object, **kwargs: Any) -> None:
        """Let the gradients of the step start at that of the penalty."""
        for weight in self._penalised:
            weight.add_gradients(self._penalty)

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
class _Zero:
    """A LoRA that is frozen where it starts, at a zero update.

    Its gradients stay: PEFT would set `requires_grad` again when a run resumes.
    """

    layer: Any

    def project(self) -> None:
        b, a, is_embedding = adapter_factors(self.layer)
        (a if is_embedding else b).data.zero_()


def _frozen(model: torch.nn.Module, trained: Sequence[TrainedWeight]) -> list[_Zero]:
    """Freeze weights that are trained whole, and return the LoRAs that have to be held.

    Raises:
        ConfigError: a part of a weight in memory is not to be frozen, or nothing else is trained.
    """
    sizes, parameters = defaultdict[int, int](int), dict[int, torch.nn.Parameter]()
    layers = {id(weight.layer): weight.layer for weight in trained if weight.layer}
    for weight in trained:
        if not weight.layer:
            parameter = weight.parameter()
            sizes[id(parameter)] += weight.read().numel()
            parameters[id(parameter)] = parameter
            if sizes[id(parameter)] == parameter.numel():
                parameter.requires_grad_(False)
    if any(sizes[key] != parameter.numel() for key, parameter in parameters.items()):
        raise ConfigError("protect: a weight in memory is of a frozen block in part: freeze whole blocks")
    adapters = sum(isinstance(module, lora.LoraLayer) for module in model.modules())
    if adapters and adapters == len(layers):
        raise ConfigError("protect: every LoRA lies in a frozen block, and none would be trained: lower the fraction")
    note(f"frozen: {len(trained)} matrices of the blocks that are claimed")
    return [_Zero(layer) for layer in layers.values()]


def _hold(weight: TrainedWeight, bases: ProtectedBases, keep: Keep) -> Iterator[_Held]:
    matrix = weight.read()
    claims = bases.claims(weight.tensor, matrix.device)
    if weight.layer is None:
        pairs = zip(matrices(matrix), claims, strict=True)
        yield _Held(weight.read, [part.clone() if basis else None for part, basis in pairs], claims, keep)
        return
    weight.check_factors()
    [basis] = claims
    assert basis is not None
    if keep == "outside" and basis.left is not None and basis.right is not None:
        raise ConfigError(f"protect: {weight.tensor}: {NOT_A_PRODUCT}")
    if basis.left is not None:
        yield _Held(partial(factor, weight.layer, "outputs"), [None], [Basis(basis.left, None)], keep)
    if basis.right is not None:
        yield _Held(partial(factor, weight.layer, "inputs"), [None], [Basis(None, basis.right)], keep)
