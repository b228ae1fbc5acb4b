"""Models that differ in their vocabulary, or in whether the output head is tied, made comparable."""

import json
import logging
from functools import cache
from pathlib import Path
from typing import Any

from safespan.checkpoints.names import is_head
from safespan.checkpoints.reader import Checkpoint
from safespan.errors import CheckpointError
from safespan.settings.names import Vocabulary

_log = logging.getLogger(__name__)


def pair_up(aligned: Checkpoint, *others: Checkpoint, vocabulary: Vocabulary = "shared") -> None:
    """Make models of one architecture comparable, in place.

    Of embeddings with other numbers of tokens the rows are compared that all have; the others count nowhere, and stay
    as they are in what is written. A model whose head is its embedding has it twice beside one with a head of its own.

    Args:
        aligned: the model whose weights are changed.
        others: those that it is compared with.
        vocabulary: whether other numbers of tokens are allowed.

    Raises:
        CheckpointError: other numbers of tokens where they are refused, other tokens at the shared rows, or a head that
            `aligned` has not.
    """
    for other in others:
        for head in [name for name in aligned.shapes if is_head(name) and name not in other.shapes and other.tied]:
            other.untie(head)
            _say(
                aligned,
                f"{other.name} ties its output head to its embedding, and {aligned.name} does not: it counts as both",
            )
        if aligned.tied and any(is_head(name) for name in other.shapes.keys() - aligned.shapes.keys()):
            raise CheckpointError(
                f"{other.name} has an output head of its own, which {aligned.name} ties to its embedding: a change of "
                "it alone cannot be given to that model; save a copy of it with tie_word_embeddings false"
            )
    _share_rows([aligned, *others], vocabulary)


def _share_rows(models: list[Checkpoint], vocabulary: Vocabulary) -> None:
    rows = {model.name: model.tokens for model in models}
    known = [count for count in rows.values() if count is not None]
    if len(set(known)) < 2:
        return
    fewest = min(known)
    told = ", ".join(f"{name} has {count}" for name, count in rows.items())
    if vocabulary == "refuse":
        raise CheckpointError(f"other numbers of tokens: {told}; allow it (vocabulary: shared), or undo the resizing")
    first = models[0]
    for other in models[1:]:
        if differing := _first_difference(first.folder, other.folder, fewest):
            number, one, two = differing
            raise CheckpointError(
                f"{first.name} and {other.name} have other tokens at the same rows: number {number} is {one!r} and "
                f"{two!r}; give models of one tokenizer"
            )
    for model in models:
        model.share_rows(fewest)
    _say(first, f"other numbers of tokens: {told}; the first {fewest} rows of embeddings and heads are compared")


def _first_difference(one: Path, other: Path, rows: int) -> tuple[int, str, str] | None:
    """The first of the shared rows that stands for other tokens; None if none does, or a folder does not say."""
    first, second = _tokens(one), _tokens(other)
    different = (n for n in range(rows) if n in first and n in second and first[n] != second[n])
    return next(((n, first[n], second[n]) for n in different), None)


@cache
def _tokens(folder: Path) -> dict[int, str]:
    """Number -> token of the tokenizer in a folder; empty where it is not in tokenizer.json."""
    try:
        stored: Any = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        words = stored["model"]["vocab"]
        pairs = [(entry[0], number) for number, entry in enumerate(words)] if isinstance(words, list) else words.items()
        found = {int(number): str(word) for word, number in pairs}
        return found | {int(token["id"]): str(token["content"]) for token in stored.get("added_tokens") or ()}
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        return {}


def _say(aligned: Checkpoint, line: str) -> None:
    if line not in aligned.notes:
        aligned.notes.append(line)
        _log.warning(line)
