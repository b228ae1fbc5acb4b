"""Temporary folders for unfinished work, and their removal after a process was killed."""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from safespan.files.disk import explain_unwritable, flush, make_folder, sync

LOCK = ".lock"
"""The file in a folder that its process has locked."""
_REPLACED = ".replaced"
_SUFFIX = ".safespan"
_SCRATCH = re.compile(r"\.(.+)\.[a-z0-9_]{8}" + re.escape(_SUFFIX))


@contextmanager
def scratch_folder(place: Path, name: str) -> Iterator[Path]:
    """A temporary folder in `place`, removed on leaving.

    The folder of a killed process is removed when the next one of the same name is made; see `clear_leftovers`.

    Raises:
        ConfigError: no folder can be made there.
    """
    make_folder(place)
    for leftover in _scratch_folders(place):
        if _target(leftover) == place / name:
            _clear(leftover)
    with explain_unwritable(place / name):
        scratch, lock = _new_scratch(place, name)
    with lock:
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def replace_atomically(part: Path, target: Path) -> None:
    """Rename a file or folder in a scratch folder to its target, and flush it; an existing target is replaced.

    Replacing a folder takes two renames: the old folder away, then the new one to the target. If the process is killed
    between them, `clear_leftovers` does the second.

    Raises:
        ConfigError: the target is a file and `part` a folder, or the other way round.
    """
    sync(part)
    with explain_unwritable(target):
        if target.is_dir() and part.is_dir():
            target.rename(part.with_name(_REPLACED))
        os.replace(part, target)
    flush(target.parent)


def clear_leftovers(root: Path) -> None:
    """Remove the scratch folders of killed processes in a folder and below it; those of running processes stay."""
    for place, folders, _ in os.walk(root):
        for leftover in _scratch_folders(Path(place)):
            _clear(leftover)
        folders[:] = [name for name in folders if not _SCRATCH.fullmatch(name)]


def _new_scratch(place: Path, name: str) -> tuple[Path, IO[str]]:
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=_SUFFIX, dir=place))
        try:
            lock = (scratch / LOCK).open("a", encoding="utf-8")
        except FileNotFoundError:  # another process removed it before it was locked
            continue
        except OSError:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        with suppress(BlockingIOError):
            try_lock(lock)
            if (scratch / LOCK).exists():
                return scratch, lock
        lock.close()


def _scratch_folders(place: Path) -> list[Path]:
    return [path for path in place.iterdir() if _SCRATCH.fullmatch(path.name)]


def _target(scratch: Path) -> Path:
    matched = _SCRATCH.fullmatch(scratch.name)
    assert matched
    return scratch.with_name(matched[1])


def _clear(scratch: Path) -> None:
    with suppress(OSError), (scratch / LOCK).open("a", encoding="utf-8") as lock:  # locked: its process is running
        if not try_lock(lock):
            return
        target = _target(scratch)
        if (scratch / _REPLACED).exists() and not target.exists():
            os.replace(scratch / target.name, target)
            flush(target.parent)
        shutil.rmtree(scratch, ignore_errors=True)


def try_lock(file: IO[str]) -> bool:
    """Lock an open file until it is closed or the process ends.

    On NFS, Linux passes the lock on to the server, so that it holds between hosts; on a mount with `nolock` it holds on
    one host only. After a crash of the host, the server frees the lock when the host is back or its lease expires.

    Returns:
        Whether it is locked; False on a file system without locks.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True
