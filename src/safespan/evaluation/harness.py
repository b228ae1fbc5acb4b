"""Changes of lm-evaluation-harness for speed and output."""

import functools
import logging
import sys
from contextlib import ExitStack
from typing import Any

import datasets
import lm_eval.api.model
import lm_eval.api.task
import lm_eval.models.huggingface
import lm_eval.utils
import transformers
from tqdm import tqdm

from safespan.progress import progress_task


@functools.cache
def prepare_harness() -> None:
    """Cache the templates of lm-eval, and hide its output. Done once per process.

    lm-eval compiles a task's Jinja templates three times for every document: 1.0 s of 1.3 s for 500 documents. A cache
    of templates does not change the results.
    """
    environment = lm_eval.utils.env
    environment.from_string = functools.lru_cache(maxsize=256)(environment.from_string)
    for module in (lm_eval.api.model, lm_eval.api.task):
        module.tqdm = _no_bar
    lm_eval.models.huggingface.tqdm = _Bar
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()


def hide_bar(kind: type) -> None:
    """Show safespan's progress bar in place of the one of a class of lm-eval's models."""
    vars(sys.modules[kind.__module__])["tqdm"] = _Bar


def _no_bar(*args: Any, **options: Any) -> tqdm:
    return tqdm(*args, **{**options, "disable": True})


class _Bar(tqdm):
    """Replaces the progress bar of a model's requests by safespan's."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "disable": True})
        self._counting = ExitStack()
        name = "prompts" if "generate" in options.get("desc", "") else "likelihoods"
        self._tick = self._counting.enter_context(progress_task(name))
        self._tick(0, self.total or 0)

    def update(self, n: float | None = 1) -> None:
        self.n += n or 0
        self._tick(self.n, self.total or 0)

    def close(self) -> None:
        self._counting.close()
