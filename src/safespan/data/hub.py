"""Data sets: of the Hugging Face hub, folders of data files, and folders that `save_to_disk` wrote."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safespan.errors import DataError
from safespan.settings.data import RowSource

_cache: ContextVar[str | None] = ContextVar("cache", default=None)
"""Where folders of data files are converted to; None: in the cache of the library."""


class NotCachedError(DataError):
    """A data set of the hub is not in the local cache, and the hub is not reached."""


def is_data_set(source: RowSource) -> bool:
    """Whether the rows are those of a data set, not of one file."""
    return source.file is None or os.path.isdir(source.file)


@contextmanager
def from_this_disk_alone() -> Iterator[None]:
    """Inside, data sets are read without the network, and nothing is kept of them in the cache."""
    import datasets
    import huggingface_hub.constants as hub

    before = datasets.config.HF_HUB_OFFLINE, hub.HF_HUB_OFFLINE, datasets.logging.get_verbosity()
    with TemporaryDirectory(prefix="safespan-") as folder:
        datasets.config.HF_HUB_OFFLINE = hub.HF_HUB_OFFLINE = True
        datasets.logging.set_verbosity_error()  # else it warns of every data set that it finds in the cache
        token = _cache.set(folder)
        try:
            yield
        finally:
            _cache.reset(token)
            datasets.config.HF_HUB_OFFLINE, hub.HF_HUB_OFFLINE, verbosity = before
            datasets.logging.set_verbosity(verbosity)


def offline(source: RowSource) -> AbstractContextManager[None]:
    """Inside, rows are read without the network."""
    return from_this_disk_alone() if is_data_set(source) else nullcontext()


@contextmanager
def from_files_alone() -> Iterator[None]:
    """As `from_this_disk_alone`, for what only reads files: data sets in the cache of the library are not found."""
    import datasets

    before = datasets.config.HF_DATASETS_CACHE
    with from_this_disk_alone():
        datasets.config.HF_DATASETS_CACHE = Path(str(_cache.get()))
        try:
            yield
        finally:
            datasets.config.HF_DATASETS_CACHE = before


def load_data_set(source: RowSource) -> Any:
    """The rows of a data set.

    Raises:
        NotCachedError: it is a data set of the hub that is not on this disk, and the hub cannot be reached.
        DataError: it cannot be loaded, or has no such split or subset.
    """
    import datasets

    datasets.disable_progress_bars()
    name = source.file or source.dataset or ""
    folder = Path(name)
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            return _saved(datasets.load_from_disk(name), source)
        cache = _cache.get() if folder.is_dir() else None
        options = {"split": source.split, "revision": source.revision, "cache_dir": cache}
        return datasets.load_dataset(name, source.subset, **options)
    except (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError) as error:
        missing = isinstance(error, ConnectionError) or str(error).startswith("Couldn't find cache")
        raise (NotCachedError if missing else DataError)(f"{source.name}: {_advice(source, error)}") from error


def _saved(saved: Any, source: RowSource) -> Any:
    """The rows of one split of what was saved; of a set that was saved alone, also under the default name."""
    alone, default = not isinstance(saved, dict), RowSource.model_fields["split"].default
    splits = {str(saved.split or default): saved} if alone else saved
    if alone and source.split == default:
        return saved
    if source.split not in splits:
        raise ValueError(f"split {source.split!r} is not there; it has {', '.join(splits)}")
    return splits[source.split]


def _advice(source: RowSource, error: Exception) -> str:
    """Why a data set cannot be loaded, and what to do next."""
    reason = " ".join(str(error).split())
    if "gated" in reason:
        page = f"https://huggingface.co/datasets/{source.dataset}"
        return f"this data set is gated; accept its terms at {page} and set HF_TOKEN, or give a local copy as `file`"
    if isinstance(error, ConnectionError):
        return "not in the local cache, and the hub cannot be reached; go online once, or give a local copy as `file`"
    if "split" in reason or "BuilderConfig" in reason or "Config name" in reason:
        return f"no such split or subset ({reason[:300]})"
    return f"cannot be loaded as a data set ({reason[:300]}); give a hub id such as org/name, a folder, or a `file`"
