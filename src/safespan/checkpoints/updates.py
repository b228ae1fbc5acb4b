"""Updates Δ between two checkpoints, one matrix at a time, in float32 (METHODS §1)."""

import math
from collections.abc import Mapping

import psutil
import torch

from safespan.checkpoints import AdaptedCheckpoint, Checkpoint
from safespan.checkpoints.adapter import Factors
from safespan.errors import CheckpointError
from safespan.linalg.device import device
from safespan.linalg.kernels import squared_norm

_ROWS = 4096


def check_same_layout(*checkpoints: Checkpoint) -> list[str]:
    """Return the tensor names that all checkpoints share.

    Raises:
        CheckpointError: a tensor is missing from one of them or has another shape.
    """
    first = checkpoints[0]
    for checkpoint in checkpoints:
        checkpoint.check_numbers()
    for other in checkpoints[1:]:
        missing = sorted(set(first.names) ^ set(other.names))
        if missing:
            has, lacks = (first, other) if missing[0] in first.shapes else (other, first)
            raise CheckpointError(f"tensor {missing[0]} is in {has.name} but not in {lacks.name}")
        for name in first.names:
            if first.shapes[name] != other.shapes[name]:
                raise CheckpointError(
                    f"tensor {name} has shape {list(first.shapes[name])} in {first.name} but "
                    f"{list(other.shapes[name])} in {other.name}"
                )
    return first.names


def check_memory(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the largest tensor fits into memory, before any work.

    Raises:
        CheckpointError: fewer bytes are free than one tensor needs.
    """
    needed = {name: _bytes_needed(shape) for name, shape in shapes.items()}
    name = max(needed, key=lambda name: needed[name])
    kind = device().type
    free = torch.cuda.mem_get_info()[0] if kind == "cuda" else psutil.virtual_memory().available
    if needed[name] > free:
        raise CheckpointError(
            f"tensor {name} of shape {list(shapes[name])} needs {needed[name] / 1e9:.3g} GB of memory, and "
            f"{free / 1e9:.3g} GB are free ({kind}): end other programs, or use a machine with more"
        )


def _bytes_needed(shape: tuple[int, ...]) -> int:
    """Memory for one tensor: five float32 copies, and six float64 squares of its smaller side."""
    side = min(shape[-2:]) if len(shape) > 1 else 0
    return 4 * 5 * math.prod(shape) + 8 * 6 * side**2


def update(name: str, start: Checkpoint, end: Checkpoint) -> torch.Tensor:
    """Δ = end − start of one tensor in float32, in the tensor's own shape, on `linalg.device.device()`.

    Between a base and the same base with an adapter it is the adapter's B·A, without rounding.

    Raises:
        CheckpointError: the tensor cannot be read, holds NaN or Inf, or differs by more than float32 can square.
    """
    if isinstance(end, AdaptedCheckpoint) and adapts(end, start):
        if name not in end.changed:
            return torch.zeros(end.shapes[name], device=device())
        if (delta := end.update(name)) is not None:
            return delta.to(device())
    delta = end.load(name, finite=False).to(device(), torch.float32, copy=True)
    weights = start.load(name, finite=False).to(device())
    for rows, start_rows in zip(torch.split(delta, _ROWS), torch.split(weights, _ROWS), strict=True):
        rows -= start_rows  # in parts: torch makes a float32 copy of the subtrahend
    if not math.isfinite(squared_norm(delta)):  # far cheaper than a check of every weight of both
        start.load(name)
        end.load(name)
        raise CheckpointError(
            f"the update of {name} from {start.name} to {end.name} is too large: its squared norm overflows float32; "
            "such weights are broken"
        )
    return delta


def update_factors(name: str, start: Checkpoint, end: Checkpoint) -> Factors | None:
    """Two matrices [m, r] and [r, n] whose product is the update, on `linalg.device.device()`.

    None unless `end` is `start` with an adapter that changes this tensor by B·A.
    """
    if not isinstance(end, AdaptedCheckpoint) or not adapts(end, start):
        return None
    factors = end.factors(name)
    return factors and (factors[0].to(device()), factors[1].to(device()))


def adapts(end: Checkpoint, start: Checkpoint) -> bool:
    """Whether `end` is `start` with an adapter."""
    return end.adapter is not None and start.adapter is None and start.folder.samefile(end.folder)


def rounded(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Cast a tensor to the dtype it is stored in.

    Raises:
        CheckpointError: a number is too large for fp16.
    """
    stored = tensor.to(dtype)
    if dtype == torch.float16 != tensor.dtype and not bool(torch.isfinite(stored).all()):
        raise CheckpointError(f"{name} does not fit into float16: a number is beyond 65504; store bfloat16 or float32")
    return stored
