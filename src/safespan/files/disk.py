"""Flushing to the disk, one-line errors of failed writes, and checks of places before any work."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safespan.errors import ConfigError, DiskFullError, SafespanError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_MESSAGES = (*map(os.strerror, _FULL), "PytorchStreamWriter failed writing", "iostream error")
"""Messages that mean a full disk; the last two are torch's."""
_NEXT = "make space and run the same command again: what is finished stays"


def sync(path: Path) -> None:
    """Flush a file, or a folder with its contents, to the disk."""
    if path.is_dir():
        for child in path.iterdir():
            if not child.is_symlink():
                sync(child)
    flush(path)


def flush(path: Path) -> None:
    """Flush one file, or the names in a folder, to the disk. On macOS the drive may still hold it in its own cache."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot flush folders
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, and flush them to the disk.

    Raises:
        ConfigError: no folder can be made there.
    """
    if not folder.is_dir():
        make_folder(folder.parent)
        with explain_unwritable(folder):
            folder.mkdir(exist_ok=True)
        flush(folder.parent)


@contextmanager
def explain_disk_full(target: Path | str) -> Iterator[None]:
    """Turn the errors of a full disk into one of one line.

    Args:
        target: the file that is written; an error with a file name of its own takes precedence.

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
        filename = getattr(full, "filename", None)
        path = Path(filename) if isinstance(filename, str) else target
        raise DiskFullError(f"{path} cannot be written: {_reason(full)}{_free(path)}; {_NEXT}") from None


@contextmanager
def explain_unwritable(path: Path, to_do: str = "give another place") -> Iterator[None]:
    """Turn the errors of an unwritable path into one of one line; see `explain_disk_full` for a full disk."""
    try:
        yield
    except OSError as error:
        if _is_full(error):
            raise
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}; {to_do}") from None


def check_writable(path: Path, to_do: str = "give another place", inside: bool = False) -> None:
    """Refuse, before any work, a file or folder that cannot be made or replaced; nothing is left behind.

    Args:
        path: it need not exist.
        to_do: about it, for the message.
        inside: it is a folder that is written into, and not replaced.

    Raises:
        ConfigError: in its folder, or the nearest above it that exists, no file can be made.
    """
    places = [path.absolute(), *path.absolute().parents][0 if inside else 1 :]
    with explain_unwritable(path, to_do), tempfile.TemporaryFile(dir=next(one for one in places if one.exists())):
        pass


def check_replaceable(out: Path, earlier: str, is_earlier: Callable[[Path], bool]) -> None:
    """Refuse, before any work, a folder to write that holds anything but an earlier result of the same command.

    Args:
        out: the folder; it need not exist.
        earlier: that result in words, such as `was not written by this command`, of a folder that is none.
        is_earlier: whether a folder that exists is one.

    Raises:
        ConfigError: it is a file, or it holds something else or belongs to a run, or nothing can be written there.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file: a folder is expected")
    if (out / "stages.json").exists():
        raise ConfigError(f"{out} holds a run too, which would be lost: give a new folder")
    above = out.absolute().parent
    if out.exists() and above.name == "checkpoints" and (above.parent / "stages.json").exists():
        raise ConfigError(f"{out} is a model of the run in {above.parent}: give a folder outside of it")
    if out.exists() and not is_earlier(out):
        raise ConfigError(f"{out} exists and {earlier}: give a new folder")
    check_writable(out)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_full(error: BaseException) -> bool:
    return getattr(error, "errno", None) in _FULL or any(message in str(error) for message in _FULL_MESSAGES)


def _reason(error: BaseException) -> str:
    return os.strerror(errno.EDQUOT if getattr(error, "errno", None) == errno.EDQUOT else errno.ENOSPC)


def _free(path: Path | str) -> str:
    if isinstance(path, str):
        return ""
    existing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    return f", {shutil.disk_usage(existing).free / 1e6:,.1f} MB free there"
