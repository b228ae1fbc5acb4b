"""Matrices and activations to put to hypotheses, without checkpoints."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from safespan.subspaces import CapturedActivations, WeightTensor, find_hypothesis

SHAPES = [(6, 15), (15, 6), (9, 9), (4, 16), (1, 7), (7, 1)]
"""Wide, tall, square, a grouped-query key, and vectors in disguise."""


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tensor(name="w", side="output", seed=0, captured=None, **updates) -> WeightTensor:
    """A weight tensor of which these updates are known."""
    load = {kind: lambda update=update: update.clone() for kind, update in updates.items()}
    shape = tuple(next(iter(updates.values())).shape)
    return WeightTensor(name, shape, load, side, seed, captured=captured)


def claimed(hypothesis: str, **given):
    """What a hypothesis claims of the one matrix of a tensor."""
    [claim] = find_hypothesis(hypothesis).evaluate(tensor(**given))
    return claim


def captured(folder: Path, **rows: torch.Tensor) -> CapturedActivations:
    """Activations as a file; names have `__` for `/`."""
    save_file({name.replace("__", "/"): part.clone() for name, part in rows.items()}, folder / "captured")
    return CapturedActivations(folder / "captured")


def part(basis, delta: torch.Tensor, k: int) -> np.ndarray:
    """P_k of an update by a basis."""
    return basis.parallel(basis.coefficients(delta), k).double().numpy()


def projector(columns: np.ndarray) -> np.ndarray:
    return columns @ columns.T
