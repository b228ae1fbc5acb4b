"""What all settings share."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

InputKind = Literal["file", "folder", "task"]


@dataclass(frozen=True)
class Names:
    """Marks a field whose text names an input on disk: a file, a folder that may be absent, or an lm-eval task."""

    kind: InputKind


class Settings(BaseModel):
    """Fields of a configuration file. They do not change, and no other field is allowed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def named_inputs(settings: BaseModel, parents: str = "") -> Iterator[tuple[str, InputKind, str]]:
    """(dotted field, kind of input, text) of every field that is marked with `Names` and set."""
    for name, info in type(settings).model_fields.items():
        field, value = f"{parents}{name}", getattr(settings, name)
        marks = [mark for mark in info.metadata if isinstance(mark, Names)]
        if isinstance(value, BaseModel):
            yield from named_inputs(value, f"{field}.")
        elif marks and value is not None:
            yield field, marks[0].kind, value
