"""Folders for work in hand, which a killed process leaves no trace of."""

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
"""The file in a folder that the process at work there has locked."""
_REPLACED = ".replaced"
_SUFFIX = ".safespan"
_SCRATCH = re.compile(r"\.(.+)\.[a-z0-9_]{8}" + re.escape(_SUFFIX))


@contextmanager
def scratch_folder(place: Path, name: str) -> Iterator[Path]:
    """A folder in `place` for work in hand, removed in the end.

    That of a process that was killed is removed by the next that makes one of the same name; see `clear_leftovers`.

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
    """Rename what lies in a scratch folder to its target, for good; a folder that stands there is replaced.

    A folder cannot be replaced in one step: where a kill comes between the two, `clear_leftovers` does the second.

    Raises:
        ConfigError: a file stands where a folder is to be, or the other way round.
    """
    sync(part)
    with explain_unwritable(target):
        if target.is_dir() and part.is_dir():
            target.rename(part.with_name(_REPLACED))
        os.replace(part, target)
    flush(target.parent)


def clear_leftovers(root: Path) -> None:
    """Remove the scratch folders that killed processes left in a folder and below it, and none of a living one."""
    for place, inner, _ in os.walk(root):
        for leftover in _scratch_folders(Path(place)):
            _clear(leftover)
        inner[:] = [name for name in inner if not _SCRATCH.fullmatch(name)]


def _new_scratch(place: Path, name: str) -> tuple[Path, IO[str]]:
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=_SUFFIX, dir=place))
        try:
            lock = (scratch / LOCK).open("a", encoding="utf-8")
        except FileNotFoundError:  # taken for a leftover before it was locked
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
    with suppress(OSError), (scratch / LOCK).open("a", encoding="utf-8") as lock:  # locked: its process lives
        if not try_lock(lock):
            return
        target = _target(scratch)
        if (scratch / _REPLACED).exists() and not target.exists():
            os.replace(scratch / target.name, target)
            flush(target.parent)
        shutil.rmtree(scratch, ignore_errors=True)


def try_lock(file: IO[str]) -> bool:
    """Lock an open file until it is closed or the process ends, however it ends.

    NFS: Linux passes such locks on to the server, so that they hold between hosts; mounted with `nolock` they hold on
    one host only. After a host's crash the server frees its locks when it is back, or when its lease runs out.

    Returns:
        Whether it is locked; a file system may have no locks.

    Raises:
        BlockingIOError: another has it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True
