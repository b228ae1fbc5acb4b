"""Reading of captured activations, matrix by matrix."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from safetensors import safe_open

from safespan.errors import DataError
from safespan.linalg.device import device

Made = TypeVar("Made")

INPUTS, RESIDUAL, INSTRUCTION, BASE, REFUSAL = "inputs", "residual", "instruction", "base", "refusal"
"""Prefixes of the tensors in the file: INPUTS/PROMPTS/TENSOR, RESIDUAL/PROMPTS/LAYER and INSTRUCTION/PROMPTS/LAYER (at
the last token of the prompt, and of the instruction in it), BASE/PROMPTS/LAYER (as RESIDUAL, of the base model),
REFUSAL/(direction|scores)/LAYER.
"""

CONTENTS = 2
"""Raised when other things are captured of the same model and prompts, so that a file from before is captured anew."""


@dataclass(frozen=True, eq=False)
class RefusalCandidate:
    """A direction that may mediate refusal, with what it does to the model (`activations.refusal`).

    A refusal score is the mean over prompts of the log-odds that a response begins as refusals do.

    Attributes:
        direction: [d], mean activation after one block on harmful prompts − that on useful prompts; not of unit length.
        bypass: refusal score of harmful prompts with the direction ablated.
        induce: refusal score of useful prompts with `direction` added after that block.
        divergence: KL(plain ‖ ablated) of the next token on useful prompts, in nats.
    """

    direction: Float[torch.Tensor, " d"]
    bypass: float
    induce: float
    divergence: float


def as_tensors(candidates: Mapping[int, RefusalCandidate]) -> dict[str, torch.Tensor]:
    """The tensors of the file that `CapturedActivations.refusal_candidates` reads."""
    directions = {f"{REFUSAL}/direction/{layer}": known.direction for layer, known in candidates.items()}
    scores = {
        f"{REFUSAL}/scores/{layer}": torch.tensor([known.bypass, known.induce, known.divergence], dtype=torch.float64)
        for layer, known in candidates.items()
    }
    return directions | scores


@dataclass(frozen=True)
class CapturedActivations:
    """A file of the aligned model's activations at the last attended token (`activations.capture_for_hypotheses`)."""

    path: Path
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """What `make` gives, which depends on this file alone: made for the first matrix that asks, and kept."""
        if name not in self._made:
            self._made[name] = make()
        made: Made = self._made[name]
        return made

    @cached_property
    def _names(self) -> frozenset[str]:
        with self._open() as file:
            return frozenset(file.keys())

    def inputs(self, prompts: str, tensor: str) -> Float[torch.Tensor, "N n"] | None:
        """Inputs of a weight matrix, one row per prompt of that class; None if they were not captured."""
        name = f"{INPUTS}/{prompts}/{tensor}"
        return self._read(name) if name in self._names else None

    def residual_stream(self, prompts: str) -> dict[int, Float[torch.Tensor, "N d"]]:
        """Layer ℓ = 1 … L -> the residual stream after block ℓ, one row per prompt of that class."""
        return self._by_layer(f"{RESIDUAL}/{prompts}/")

    @property
    def layers(self) -> int:
        """L, the number of blocks."""
        return sum(name.startswith(f"{RESIDUAL}/useful/") for name in self._names)

    def residual_after(self, prompts: str, layer: int) -> Float[torch.Tensor, "N d"]:
        """The residual stream after block `layer` = 1 … L, one row per prompt of that class."""
        return self._read(f"{RESIDUAL}/{prompts}/{layer}")

    def instruction_after(self, prompts: str, layer: int) -> Float[torch.Tensor, "N d"] | None:
        """As `residual_after`, at the last token of the user's instruction; None where the template rewrites it."""
        name = f"{INSTRUCTION}/{prompts}/{layer}"
        return self._read(name) if name in self._names else None

    def base_after(self, prompts: str, layer: int) -> Float[torch.Tensor, "N d"]:
        """As `residual_after`, of the base model on the same tokens.

        Raises:
            DataError: base was not captured.
        """
        name = f"{BASE}/{prompts}/{layer}"
        if name not in self._names:
            raise DataError(f"{self.path}: the activations of base are not in it; capture with base=")
        return self._read(name)

    def refusal_candidates(self) -> dict[int, RefusalCandidate]:
        """Layer ℓ < 0.8 L -> its candidate for the refusal direction; empty if there were too few prompts for one."""
        directions, scores = (self._by_layer(f"{REFUSAL}/{part}/") for part in ("direction", "scores"))
        return {layer: RefusalCandidate(directions[layer], *scores[layer].tolist()) for layer in directions}

    def _by_layer(self, start: str) -> dict[int, torch.Tensor]:
        layers = sorted(int(name.removeprefix(start)) for name in self._names if name.startswith(start))
        return {layer: self._read(f"{start}{layer}") for layer in layers}

    def _read(self, name: str) -> torch.Tensor:
        with self._open() as file:
            tensor: torch.Tensor = file.get_tensor(name)
        return tensor.to(device())

    def _open(self) -> Any:
        return safe_open(self.path, framework="pt")
