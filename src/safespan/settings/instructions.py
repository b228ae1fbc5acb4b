"""One path through the instructions of x86-64 processors, so that a training gives the same bits on each of them.

Libraries choose their kernels by the processor: the same seed trained on AVX2 and on AVX-512 gives other weights after
five steps, and other figures at the end. These variables choose for them. Each library reads its own when it is loaded.
"""

import os
import sys

ONE_PATH = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
}
"""Variable -> value: PyTorch's own kernels, MKL, oneDNN and OpenBLAS of NumPy and SciPy."""

_READ_BY = ("torch", "numpy")
"""Packages that read them when they are imported."""


def take_one_path() -> bool:
    """Choose the path for this process and those that it starts, whatever was chosen before.

    Returns:
        Whether that was in time. Where NumPy or PyTorch was imported under other variables it is not: nothing is
        changed, so that all processes stay on one path, the processor's own.
    """
    if all(os.environ.get(name) == value for name, value in ONE_PATH.items()):
        return True
    if any(package in sys.modules for package in _READ_BY):
        return False
    os.environ.update(ONE_PATH)
    return True
