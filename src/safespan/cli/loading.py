"""Large libraries on the progress display: a task while one of them is imported."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from safespan.progress import progress_task

LARGE = (
    "accelerate",
    "altair",
    "datasets",
    "inspect_ai",
    "lm_eval",
    "peft",
    "polars",
    "ray",
    "scipy",
    "sklearn",
    "torch",
    "transformers",
    "trl",
    "vllm",
)
"""Modules that take up to some seconds to import."""


class _Finder(MetaPathFinder):
    """Finds large libraries where Python does, and counts their execution as a task."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in LARGE else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def counted(module: ModuleType) -> None:
            with progress_task(f"loading {name}"):
                execute(module)

        spec.loader.exec_module = counted  # type: ignore[method-assign]
        return spec


@contextmanager
def loading_shown() -> Iterator[None]:
    """Show what is imported inside on the display, if there is one: bars show it on a terminal once it takes long."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
