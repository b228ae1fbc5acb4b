"""Reading of captured activations, matrix by matrix."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import safe_open

from safespan.linalg.device import device

INPUTS, RESIDUAL = "inputs", "residual"
"""Prefixes of the tensors in the file: INPUTS/PROMPTS/TENSOR and RESIDUAL/PROMPTS/LAYER."""


@dataclass(frozen=True)
class CapturedActivations:
    """A file of the aligned model's activations at the last attended token (`activations.capture_for_hypotheses`)."""

    path: Path

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
        start = f"{RESIDUAL}/{prompts}/"
        layers = sorted(int(name.removeprefix(start)) for name in self._names if name.startswith(start))
        return {layer: self._read(f"{start}{layer}") for layer in layers}

    def _read(self, name: str) -> torch.Tensor:
        with self._open() as file:
            tensor: torch.Tensor = file.get_tensor(name)
        return tensor.to(device())

    def _open(self) -> Any:
        return safe_open(self.path, framework="pt")
