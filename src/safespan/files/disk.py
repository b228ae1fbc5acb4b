"""Writing that reaches the disk, and errors of writing in one line."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safespan.errors import ConfigError, DiskFullError, SafespanError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_MESSAGES = (*map(os.strerror, _FULL), "PytorchStreamWriter failed writing", "iostream error")
"""Messages of libraries that have errors of their own for a full disk; the last two are torch's."""
_NEXT = "make space and run the same command again: what is finished stays"


def sync(path: Path) -> None:
    """Bring a file, or a folder and all that is in it, to the disk."""
    if path.is_dir():
        for inner in path.iterdir():
            if not inner.is_symlink():
                sync(inner)
    flush(path)


def flush(path: Path) -> None:
    """Bring one file, or the names in a folder, to the disk. On macOS it reaches the drive, not always the medium."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems have no such thing for folders
            raise
    finally:
        os.close(number)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, so that they outlast a power cut.

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
    """Report in one line that the disk is full, if that ends the work inside.

    Args:
        target: what is written inside; an error that names its own file takes precedence.

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
        place = Path(named) if isinstance(named, str) else target
        raise DiskFullError(f"{place} cannot be written: {_reason(full)}{_free(place)}; {_NEXT}") from None


@contextmanager
def explain_unwritable(place: Path) -> Iterator[None]:
    """Report in one line that nothing can be written to a place; a full disk is left to `explain_disk_full`."""
    try:
        yield
    except OSError as error:
        if _is_full(error):
            raise
        raise ConfigError(f"{place} cannot be written: {error.strerror or error}; give another place") from None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_full(error: BaseException) -> bool:
    return getattr(error, "errno", None) in _FULL or any(message in str(error) for message in _FULL_MESSAGES)


def _reason(error: BaseException) -> str:
    return os.strerror(errno.EDQUOT if getattr(error, "errno", None) == errno.EDQUOT else errno.ENOSPC)


def _free(place: Path | str) -> str:
    if isinstance(place, str):
        return ""
    existing = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
    return f", {shutil.disk_usage(existing).free / 1e6:,.1f} MB free there"
