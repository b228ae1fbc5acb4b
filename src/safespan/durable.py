"""Files that outlast a power cut, folders that one process has to itself, and disks that are full."""

import errno
import fcntl
import logging
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from safespan.errors import ConfigError, DiskFullError, SafespanError

_LOCK = ".lock"
_REPLACED = ".replaced"
_SUFFIX = ".safespan"
_SCRATCH = re.compile(r"\.(.+)\.[a-z0-9_]{8}" + re.escape(_SUFFIX))

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SAID = (*map(os.strerror, _FULL), "PytorchStreamWriter failed writing", "iostream error")
"""What libraries with errors of their own say of a full disk; the last two are torch's."""


def sync(path: Path) -> None:
    """Bring a file, or a folder and all that is in it, to the disk."""
    if path.is_dir():
        for inner in path.iterdir():
            if not inner.is_symlink():
                sync(inner)
    _flush(path)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, so that they outlast a power cut.

    Raises:
        ConfigError: no folder can be made there.
    """
    if not folder.is_dir():
        make_folder(folder.parent)
        with _allowed(folder):
            folder.mkdir(exist_ok=True)
        _flush(folder.parent)


def append(path: Path, text: str) -> None:
    """Add to the end of a file, which is made if need be; the text is on the disk when this returns.

    Raises:
        ConfigError: the file cannot be written to.
        DiskFullError: there is no space for it; some of it may have been written.
    """
    with writing(path), _allowed(path):
        make_folder(path.parent)
        new = not path.exists()
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if new:
            _flush(path.parent)


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
    with _allowed(place / name):
        scratch, lock = _new_scratch(place, name)
    with lock:
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def put(part: Path, target: Path) -> None:
    """Rename what lies in a scratch folder to its target, for good; a folder that stands there is replaced.

    A folder cannot be replaced in one step: where a kill comes between the two, `clear_leftovers` does the second.

    Raises:
        ConfigError: a file stands where a folder is to be, or the other way round.
    """
    sync(part)
    with _allowed(target):
        if target.is_dir() and part.is_dir():
            target.rename(part.with_name(_REPLACED))
        os.replace(part, target)
    _flush(target.parent)


def clear_leftovers(root: Path) -> None:
    """Remove the scratch folders that killed processes left in a folder and below it, and none of a living one."""
    for place, inner, _ in os.walk(root):
        for leftover in _scratch_folders(Path(place)):
            _clear(leftover)
        inner[:] = [name for name in inner if not _SCRATCH.fullmatch(name)]


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Have a folder to oneself; it is made, and leftovers in it are cleared.

    Raises:
        ConfigError: another process has it, and which; or nothing can be written there.
    """
    make_folder(folder)
    with _allowed(folder):
        lock = (folder / _LOCK).open("a+", encoding="utf-8")
    with lock:
        try:
            locked = _lock(lock)
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


@contextmanager
def writing(what: Path | str) -> Iterator[None]:
    """Say in one line that the disk is full, if that is what ends the work inside.

    Args:
        what: is written inside; an error that names its file says it better.

    Raises:
        DiskFullError: no space, or the user's quota is used up.
    """
    try:
        yield
    except SafespanError:
        raise
    except Exception as error:
        full = next((cause for cause in _causes(error) if _is_full(cause)), None)
        if full is None:
            raise
        named = getattr(full, "filename", None)
        place = Path(named) if isinstance(named, str) else what
        raise DiskFullError(f"{place} cannot be written: {_reason(full)}{_free(place)}; {_NEXT}") from None


@contextmanager
def _allowed(place: Path) -> Iterator[None]:
    """Say in one line that nothing can be written to a place; that a disk is full is left to `writing`."""
    try:
        yield
    except OSError as error:
        if _is_full(error):
            raise
        raise ConfigError(f"{place} cannot be written: {error.strerror or error}; give another place") from None


_NEXT = "make space and run the same command again: what is finished stays"


def _flush(path: Path) -> None:
    # On macOS this reaches the drive, whose own cache is the drive's affair.
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems have no such thing for folders
            raise
    finally:
        os.close(number)


def _lock(file: IO[str]) -> bool:
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


def _new_scratch(place: Path, name: str) -> tuple[Path, IO[str]]:
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=_SUFFIX, dir=place))
        try:
            lock = (scratch / _LOCK).open("a", encoding="utf-8")
        except FileNotFoundError:  # taken for a leftover before it was locked
            continue
        except OSError:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        with suppress(BlockingIOError):
            _lock(lock)
            if (scratch / _LOCK).exists():
                return scratch, lock
        lock.close()


def _scratch_folders(place: Path) -> list[Path]:
    return [path for path in place.iterdir() if _SCRATCH.fullmatch(path.name)]


def _target(scratch: Path) -> Path:
    found = _SCRATCH.fullmatch(scratch.name)
    assert found
    return scratch.with_name(found[1])


def _clear(scratch: Path) -> None:
    with suppress(OSError), (scratch / _LOCK).open("a", encoding="utf-8") as lock:  # locked: its process lives
        if not _lock(lock):
            return
        target = _target(scratch)
        if (scratch / _REPLACED).exists() and not target.exists():
            os.replace(scratch / target.name, target)
            _flush(target.parent)
        shutil.rmtree(scratch, ignore_errors=True)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_full(error: BaseException) -> bool:
    return getattr(error, "errno", None) in _FULL or any(said in str(error) for said in _SAID)


def _reason(error: BaseException) -> str:
    return os.strerror(errno.EDQUOT if getattr(error, "errno", None) == errno.EDQUOT else errno.ENOSPC)


def _free(place: Path | str) -> str:
    if isinstance(place, str):
        return ""
    there = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
    return f", {shutil.disk_usage(there).free / 1e6:,.1f} MB free there"
