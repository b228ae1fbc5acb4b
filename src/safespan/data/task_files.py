"""The local files that an lm-eval task reads."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from safespan.settings.reading import UNREADABLE

Value = str | int | float | bool | None | list["Value"] | dict[str, "Value"]


class _Loader(yaml.SafeLoader):
    """Plain values; any tag except `!function` gives None."""


class _Function(str):
    """The argument of `!function`: module and name."""


_Loader.add_constructor("!function", lambda loader, node: _Function(node.value))
_Loader.add_multi_constructor("", lambda loader, tag, node: None)


def task_files(task: str) -> list[Path]:
    """The files and folders that a local task reads, because its outcome depends on their contents.

    These are its YAML file, the files that it includes, the Python files of its functions, and its documents:
    `dataset_path`, `data_dir` and `data_files` where they lie on this disk. A task that lm-eval knows by name has none.
    Files that a Python function opens are not known.

    Args:
        task: name of a task, or path of its YAML file.
    """
    if not task.endswith((".yaml", ".yml")) or not os.path.isfile(task):
        return []
    return sorted(set(_read_by(Path(task), set())))


def has_documents_here(task: str) -> bool:
    """Whether the documents of a task are files on this disk."""
    return any(path.suffix not in (".yaml", ".yml", ".py") for path in task_files(task))


def _read_by(file: Path, seen: set[Path]) -> Iterator[Path]:
    if not os.path.isfile(file) or (path := file.resolve()) in seen:
        return
    seen.add(path)
    yield path
    try:
        fields: Value = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # nosec B506
    except (OSError, *UNREADABLE):
        return  # lm-eval reports the error
    if not isinstance(fields, dict):
        return
    for other in _texts(fields.get("include")):
        yield from _read_by(path.parent / other, seen)
    for text in _texts(fields):
        if isinstance(text, _Function):
            module = path.parent / f"{text.rpartition('.')[0].replace('.', '/')}.py"
            yield from [module] if os.path.isfile(module) else []
    yield from _documents(fields)


def _documents(fields: dict[str, Value]) -> Iterator[Path]:
    options = fields.get("dataset_kwargs")
    options = options if isinstance(options, dict) else {}
    folders = [text for text in (fields.get("dataset_path"), options.get("data_dir")) if isinstance(text, str)]
    local = [Path(folder) for folder in folders if os.path.exists(folder)]
    yield from local
    for pattern in _texts(options.get("data_files")):
        for place in (Path(), *local):
            yield from (Path(file).resolve() for file in glob.glob(str(place / pattern), recursive=True))


def _texts(value: Value) -> Iterator[str]:
    """Every text in a value, at any depth, that can name a file; what aliases repeat is read once."""
    waiting, seen = [value], set()
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, str):
            if "\0" not in inner:
                yield inner
        elif isinstance(inner, dict | list) and id(inner) not in seen:
            seen.add(id(inner))
            waiting += inner.values() if isinstance(inner, dict) else inner
