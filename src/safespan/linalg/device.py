"""The device and the number of threads of the linear algebra."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


def device() -> torch.device:
    """The default device: a GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
