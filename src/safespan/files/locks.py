"""Exclusive locks on folders."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safespan.errors import ConfigError
from safespan.files.disk import explain_unwritable, make_folder
from safespan.files.scratch import LOCK, clear_leftovers, try_lock


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Create a folder, lock it for this process, and clear leftovers in it.

    Raises:
        ConfigError: another process holds the lock (the message says which), or nothing can be written there.
    """
    make_folder(folder)
    with explain_unwritable(folder):
        lock = (folder / LOCK).open("a+", encoding="utf-8")
    with lock:
        try:
            locked = try_lock(lock)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise ConfigError(f"{folder} is in use by {holder}: wait until it ends, or give another folder") from None
        if not locked:
            logging.getLogger(__name__).warning(f"{folder} is on a file system without locks: start no second process")
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        clear_leftovers(folder)
        yield
