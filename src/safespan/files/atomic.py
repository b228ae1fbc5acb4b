"""Atomic writes of files and folders."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safespan.errors import ConfigError
from safespan.files.disk import explain_disk_full, explain_unwritable, flush, make_folder
from safespan.files.scratch import replace_atomically, scratch_folder


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write a file or make a folder at; rename it to `target` on success.

    An existing folder at `target` is replaced. The data is flushed to the disk before the rename, so that it survives a
    power cut. After an exception no temporary files remain.

    Raises:
        ConfigError: nothing can be written there.
        DiskFullError: there is no space for it.
    """
    if not target.name:
        raise ConfigError(f"{target} is a folder that cannot be replaced: give a name in it")
    with explain_disk_full(target), scratch_folder(target.parent, target.name) as scratch:
        yield scratch / target.name
        replace_atomically(scratch / target.name, target)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in one step."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON in one step; the order of fields is kept."""
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line in one step."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a file of `write_jsonl`."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def append(path: Path, text: str) -> None:
    """Append to a file and flush it to the disk. The file is created if it does not exist.

    Raises:
        ConfigError: the file cannot be written to.
        DiskFullError: there is no space for it; some of it may have been written.
    """
    with explain_disk_full(path), explain_unwritable(path):
        make_folder(path.parent)
        new = not path.exists()
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if new:
            flush(path.parent)
