"""λ ‖(I − C) ΔW‖²_F of a weight that is trained, and its gradient (METHODS §7)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float

from safespan.linalg.stacks import matrices
from safespan.projection.protected_file import ProtectedBases
from safespan.subspaces import Penalty
from safespan.training.protected_weights import TrainedWeight, adapter_factors


@dataclass(frozen=True)
class Penalised:
    """One weight with a penalty on its update.

    Attributes:
        weight: whole, or with a LoRA.
        start: of each matrix that is claimed, of a weight that is trained whole.
        penalties: of each matrix.
    """

    weight: TrainedWeight
    start: list[torch.Tensor | None]
    penalties: list[Penalty | None]

    @torch.enable_grad()
    def add_gradients(self, strength: float) -> None:
        """Add λ ∇‖(I − C) ΔW‖²_F to `grad` of what is trained of the weight.

        Not by `backward`: data-parallel training would take that for the end of a backward pass of its own.

        Args:
            strength: λ.
        """
        if self.weight.layer is None:
            parameters = [self.weight.parameter()]
            value = self._of_whole(parameters[0])
        else:
            b, a, flipped = adapter_factors(self.weight.layer)
            parameters = [b, a]
            value = self._of_factors(*((a.T, b.T) if flipped else (b, a)))
        for parameter, gradient in zip(parameters, torch.autograd.grad(strength * value, parameters), strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    def _of_whole(self, parameter: torch.nn.Parameter) -> torch.Tensor:
        value = parameter.new_zeros(())
        triples = zip(matrices(self.weight.view(parameter)), self.start, self.penalties, strict=True)
        for matrix, start, penalty in triples:
            if start is not None and penalty is not None:
                value = value + off(matrix - start, penalty).square().sum()
        return value

    def _of_factors(self, b: Float[torch.Tensor, "m r"], a: Float[torch.Tensor, "r n"]) -> torch.Tensor:
        """‖(I − C) s B A‖² = s² ⟨RᵀR, A Aᵀ⟩, R = (I − C) B: no m × n matrix is made."""
        [penalty], [adapter] = self.penalties, self.weight.layer.active_adapters
        assert penalty is not None
        rest = off(b, penalty)
        value: torch.Tensor = self.weight.layer.scaling[adapter] ** 2 * ((rest.T @ rest) * (a @ a.T)).sum()
        return value


def off(columns: Float[torch.Tensor, "m r"], penalty: Penalty) -> Float[torch.Tensor, "m r"]:
    """(I − C) X, C = U diag(c) Uᵀ."""
    return columns - penalty.columns @ (penalty.values[:, None] * (penalty.columns.T @ columns))


def penalised(weight: TrainedWeight, bases: ProtectedBases) -> Penalised:
    """A weight before its first step, with its penalty.

    Raises:
        ConfigError: it has a LoRA whose factors are not those of a matrix.
    """
    matrix = weight.read()
    penalties = bases.penalties(weight.tensor, matrix.device)
    if weight.layer is not None:
        weight.check_factors()
        return Penalised(weight, [None], penalties)
    start = [part.clone() if one else None for part, one in zip(matrices(matrix), penalties, strict=True)]
    return Penalised(weight, start, penalties)
