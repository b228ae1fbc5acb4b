"""Messages between a process and those that it started. Nobody else can write them."""

import pickle  # nosec B403
from typing import Any


def pack(kind: str, *content: Any) -> bytes:
    """A message as bytes: its kind, and what belongs to it.

    By `pickle` alone, not as `multiprocessing` does it, for which torch would put tensors into shared memory.
    """
    return pickle.dumps((kind, *content))


def unpack(message: bytes) -> tuple[str, list[Any]]:
    """The kind of a message, and its content."""
    kind, *content = pickle.loads(message)  # nosec B301
    return kind, content
