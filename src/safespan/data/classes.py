"""The two classes of prompts that claims and activation subspaces are made from."""

from collections.abc import Sequence

from safespan.data.sources import Prompt, read_prompts
from safespan.errors import DataError
from safespan.settings.data import PromptSource

Classes = dict[str, list[Prompt]]
"""`useful` and `harmful`, each with its prompts."""

LEAST_PROMPTS = 2
"""Different prompts of a class: one gives neither a spread nor a part that is held out."""


def read_classes(useful: PromptSource, harmful: PromptSource) -> Classes:
    """Read both classes.

    Raises:
        DataError: as `read_prompts`, a class has too few different prompts, or both have the same ones.
    """
    sources = {"useful": useful, "harmful": harmful}
    classes = {name: read_prompts(source) for name, source in sources.items()}
    for name, prompts in classes.items():
        if (different := len(texts_of(prompts))) < LEAST_PROMPTS:
            rows = f"{len(prompts)} row{'s' if len(prompts) > 1 else ''}"
            raise DataError(
                f"{name} prompts: {sources[name].name} has {rows} with {different} different prompt, expected at least "
                f"{LEAST_PROMPTS}: give more prompts"
            )
    if texts_of(classes["useful"]) == texts_of(classes["harmful"]):
        raise DataError(
            f"useful and harmful prompts are the same {len(texts_of(classes['useful']))} rows: {useful.name} and "
            f"{harmful.name}; give prompts of two classes"
        )
    return classes


def shared_by_classes(classes: Classes) -> list[str]:
    """A remark where some prompts are in both classes."""
    useful, harmful = texts_of(classes["useful"]), texts_of(classes["harmful"])
    if not (shared := len(useful & harmful)):
        return []
    return [
        f"prompts in both classes: {shared}, of {len(useful)} useful and {len(harmful)} harmful ones; leave them out "
        "of one class"
    ]


def texts_of(prompts: Sequence[Prompt]) -> set[str]:
    """The different prompts, without white space around them."""
    return {prompt.prompt.strip() for prompt in prompts}
