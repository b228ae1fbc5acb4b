"""The device and the number of threads of the linear algebra."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

from safespan.linalg.processor import usable_cores


def device() -> torch.device:
    """The default device: a GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def thread_budget() -> int:
    """Number of threads that use all cores of this process: torch's, which the environment or the caller may have set,
    but no more than there are cores. torch does not know the quota of a container.
    """
    return min(torch.get_num_threads(), usable_cores())


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Set the number of threads of torch and NumPy inside the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        with threadpool_limits(number, "blas"):
            yield
    finally:
        torch.set_num_threads(before)
