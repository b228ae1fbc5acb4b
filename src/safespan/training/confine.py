"""Training confined to a known subspace, which plants a safety subspace in a family of models."""

from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from safespan.subspaces.hypotheses.planted import planted_half


class Confine(TrainerCallback):
    """Projects the iterate after each step: W ← W_0 + P (W − W_0), P on the planted half of each matrix's outputs.

    Vectors are not trained.

    Args:
        model: before its first step.
        inside: P is the projector on the planted half; else on its complement.
        seed: of the planted halves.
    """

    def __init__(self, model: torch.nn.Module, inside: bool, seed: int) -> None:
        self._start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        self._halves = {
            name: planted_half(weight.shape[0], seed, name).to(weight)
            for name, weight in self._start.items()
            if weight.ndim == 2
        }
        self._inside = inside

    @torch.no_grad()
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Project every weight."""
        for name, weight in kwargs["model"].named_parameters():
            start, half = self._start[name], self._halves.get(name)
            if half is None:
                weight.copy_(start)
                continue
            change = weight - start
            part = half @ (half.T @ change)
            weight.copy_(start + (part if self._inside else change - part))
