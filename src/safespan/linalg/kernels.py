"""The dense kernels of the analysis: NumPy's BLAS and LAPACK on the CPU, torch's on any other device.

NumPy recognises XᵀX and computes half of it (`syrk`); torch does not. NumPy also releases the GIL; SciPy does not.
"""

import numpy as np
import torch
from jaxtyping import Float

_PART = 1 << 16


def product(left: Float[torch.Tensor, "m k"], right: Float[torch.Tensor, "k n"]) -> Float[torch.Tensor, "m n"]:
    """L·R of two matrices of one dtype."""
    return torch.from_numpy(left.numpy() @ right.numpy()) if left.is_cpu else left @ right


def gram(columns: Float[torch.Tensor, "m n"]) -> Float[torch.Tensor, "n n"]:
    """XᵀX."""
    return product(columns.T, columns)


def eigh(symmetric: Float[torch.Tensor, "n n"]) -> tuple[Float[torch.Tensor, " n"], Float[torch.Tensor, "n n"]]:
    """Eigenvalues, falling, and eigenvectors of a symmetric matrix."""
    if symmetric.is_cpu:
        values, vectors = map(torch.from_numpy, np.linalg.eigh(symmetric.numpy()))
    else:
        values, vectors = torch.linalg.eigh(symmetric)
    return values.flip(0), vectors.flip(1)


def inner_product(x: torch.Tensor, y: torch.Tensor) -> float:
    """⟨X, Y⟩ of two tensors of one shape, in parts that fit into the cache, with float64 sums of the parts."""
    if not x.is_cpu:
        return float(torch.dot(x.reshape(-1).double(), y.reshape(-1).double()))
    left, right = x.reshape(-1).numpy(), y.reshape(-1).numpy()
    with np.errstate(over="ignore", invalid="ignore"):  # the caller checks for Inf and NaN
        return sum((float(np.dot(left[i : i + _PART], right[i : i + _PART])) for i in range(0, len(left), _PART)), 0.0)


def squared_norm(tensor: torch.Tensor) -> float:
    """‖·‖²_F."""
    return inner_product(tensor, tensor)


def finite(tensor: torch.Tensor) -> bool:
    """Whether no value is NaN or Inf; each value is looked at only where the sum is NaN or Inf."""
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())
