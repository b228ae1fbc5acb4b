"""Replies of a judge, kept on disk as they arrive."""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from safespan.files.atomic import append


@dataclass(frozen=True)
class Reply:
    """The reply of a judge's model, its tokens, and whether it was cut off before its end."""

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    cut_off: bool = False


_REPLY = TypeAdapter(Reply)


def sha256_of(*values: object) -> str:
    """SHA-256 of the inputs of a reply: a judge's rubric and settings, or its question."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class Replies:
    """Replies by key, in an append-only file of one JSON object per line.

    Args:
        path: of the file, which is made with the first reply.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Reply] = {}
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        self._torn = bool(text) and not text.endswith("\n")
        for line in text.split("\n"):
            with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):  # a line that is torn
                row = json.loads(line)
                key = row.pop("key")
                self._known[key] = _REPLY.validate_python(row)

    def get(self, key: str) -> Reply | None:
        """The reply kept under a key."""
        return self._known.get(key)

    def add(self, key: str, reply: Reply) -> None:
        """Append a reply and flush it to the disk.

        Raises:
            DiskFullError: there is no space for it.
        """
        line = json.dumps({"key": key, **asdict(reply)}, ensure_ascii=False) + "\n"
        torn, self._torn = self._torn, True
        append(self._path, "\n" * torn + line)
        self._torn = False
        self._known[key] = reply

    def totals(self) -> Reply:
        """Total tokens of all replies, as a reply without text."""
        kept = self._known.values()
        return Reply("", sum(reply.input_tokens for reply in kept), sum(reply.output_tokens for reply in kept))

    def __len__(self) -> int:
        """Number of replies."""
        return len(self._known)
