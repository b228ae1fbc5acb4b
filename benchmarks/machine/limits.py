"""The machine's own limits: matrix products, eigenvectors, memory copies, reading and writing files.

Each figure is the best of several trials: a limit is what the machine can do, not what it did on average.
"""

import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.common.measured import in_process

TRIALS = 5
_BLOCK = 1 << 24
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def limits(folder: Path, size: int, file_bytes: int, orders: Iterable[int]) -> dict[str, Any]:
    """All limits: GFLOP/s by library, dtype and threads, seconds of eigenvectors, GB/s of memory and of files.

    Args:
        folder: in which the files are written.
        size: rows and columns of the factors of a product.
        file_bytes: of the files and the copies.
        orders: of the symmetric matrices whose eigenvectors are computed.
    """
    cores = os.cpu_count() or 1
    figures: dict[str, Any] = {"size": size, "file_bytes": file_bytes, "products": [], "copies": [], "eigenvectors": []}
    for threads in sorted({1, cores}):
        environment = dict.fromkeys(THREADS, str(threads))
        for library in ("torch", "numpy"):
            for dtype in ("float32", "float64"):
                run = in_process("machine.limits", "products", environment, library=library, dtype=dtype, size=size)
                row = {"library": library, "dtype": dtype, "threads": threads, "gflops": run["result"]}
                figures["products"].append(row)
        for order in orders:
            run = in_process("machine.limits", "eigenvectors", environment, order=order)
            figures["eigenvectors"].append({"order": order, "threads": threads, "seconds": run["result"]})
        run = in_process("machine.limits", "copies", environment, count=file_bytes // 8)
        figures["copies"].append({"threads": threads, "gb_per_second": run["result"]})
    return figures | {"files": in_process("machine.limits", "files", folder=folder, size=file_bytes)["result"]}


def products(library: str, dtype: str, size: int) -> Callable[[], float]:
    """A side: GFLOP/s of a product of two square matrices."""
    if library == "torch":
        a = torch.randn(size, size, dtype=getattr(torch, dtype))
        return lambda: 2e-9 * size**3 / _best(lambda: a @ a)
    b = np.random.default_rng(0).standard_normal((size, size)).astype(dtype)
    return lambda: 2e-9 * size**3 / _best(lambda: b @ b)


def eigenvectors(order: int) -> Callable[[], float]:
    """A side: seconds of the eigenvectors of a symmetric matrix in float64, by NumPy as in a sweep."""
    drawn = np.random.default_rng(0).standard_normal((order, order))
    squared = drawn @ drawn.T
    return lambda: _best(lambda: np.linalg.eigh(squared))


def copies(count: int) -> Callable[[], float]:
    """A side: GB/s of a copy in memory, bytes read and bytes written together."""
    source, target = torch.ones(count), torch.zeros(count)
    return lambda: 1e-9 * 8 * count / _best(lambda: target.copy_(source))


def files(folder: str, size: int) -> Callable[[], dict[str, float]]:
    """A side: GB/s of one file written until it is on disk, read from disk, and read from the page cache."""
    return partial(_files, Path(folder) / "limits.bin", size)


def _files(path: Path, size: int) -> dict[str, float]:
    block = os.urandom(_BLOCK)
    count = size // _BLOCK

    def write() -> None:
        with path.open("wb", buffering=0) as file:
            for _ in range(count):
                file.write(block)
            os.fsync(file.fileno())

    def read() -> None:
        into = bytearray(_BLOCK)
        with path.open("rb", buffering=0) as file:
            while file.readinto(into):
                pass

    def forget() -> None:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    try:
        written = _best(write, trials=2)
        from_disk = _best(read, before=forget, trials=2)
        from_cache = _best(read)
    finally:
        path.unlink(missing_ok=True)
    total = 1e-9 * count * _BLOCK
    return {"written": total / written, "read_from_disk": total / from_disk, "read_from_cache": total / from_cache}


def _best(work: Callable[[], Any], before: Callable[[], None] = lambda: None, trials: int = TRIALS) -> float:
    seconds = []
    for _ in range(trials):
        before()
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
