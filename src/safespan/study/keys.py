"""Keys of work: equal keys mean equal settings and equal inputs, by content."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel

from safespan.data.task_files import task_files
from safespan.files.content import content_hash
from safespan.settings.base import named_inputs

RECORDS = 4
"""Raised when the code makes other data, weights or records of the same settings, which a key cannot see by itself."""


def key_of(*parts: object) -> str:
    """A short hash of settings and inputs; equal keys mean equal work."""
    text = json.dumps([version("safespan"), RECORDS, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def input_hashes(settings: BaseModel | None) -> dict[str, str]:
    """Field -> SHA-256 of the input on this disk that it names, so that a changed file is a changed input.

    Only fields that name inputs count (`settings.base.Names`). Of an lm-eval task it is the hash of all files that the
    task reads, its documents among them. What is not on this disk has no hash.
    """
    hashes: dict[str, str] = {}
    for field, kind, text in named_inputs(settings) if settings else ():
        digest = _task_hash(text) if kind == "task" else content_hash(Path(text))
        if digest:
            hashes[field] = digest
    return hashes


def _task_hash(task: str) -> str | None:
    digests = "".join(f"{content_hash(file)}\n" for file in task_files(task))
    return hashlib.sha256(digests.encode()).hexdigest() if digests else None
