"""The reference pages, from the code that they describe: each `<!-- reference: NAME -->` is replaced at build time."""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

_MARK = re.compile(r"^<!-- reference: (\w+) -->$", re.MULTILINE)


def fill(app: Any, page: str, source: list[str]) -> None:
    """Sphinx's event source-read: put the generated Markdown where a page asks for it."""
    source[0] = _MARK.sub(lambda mark: PAGES[mark[1]](), source[0])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a bar in a cell is kept from ending it."""
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def commands() -> str:
    """Every command and option, as Typer's own documentation command writes them."""
    words = [sys.executable, "-m", "typer", "safespan.cli", "utils", "docs", "--name", "safespan"]
    written = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return written.partition("\n")[2]  # without the title: the page has its own


def fields() -> str:
    """Every field of every configuration file: type, default, meaning."""
    from safespan.settings.study import StudyConfig

    parts = []
    for kind in configurations(StudyConfig):
        rows = [
            (f"`{name}`", spelled(field.annotation) + limits(field), default(field), field.description or "")
            for name, field in kind.model_fields.items()
        ]
        intro = " ".join((kind.__doc__ or "").split())
        parts.append(f"## {kind.__name__}\n\n{intro}\n\n{table(('field', 'type', 'default', 'meaning'), rows)}")
    return "\n".join(parts)


def configurations(start: type[BaseModel]) -> list[type[BaseModel]]:
    """A model and all models that its fields can hold, each once, in the order in which they are met."""
    kinds = [start]
    for kind in kinds:
        for field in kind.model_fields.values():
            kinds += [inner for inner in dict.fromkeys(_models(field.annotation)) if inner not in kinds]
    return kinds


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def spelled(annotation: Any) -> str:
    """A type as the reader of a YAML file would name it, models linked to their section."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin in (Union, UnionType):
        return " or ".join(spelled(part) for part in parts)
    if origin is tuple:
        return f"list of {spelled(parts[0])}"
    if origin is dict:
        return f"{spelled(parts[0])} → {spelled(parts[1])}"
    if parts:  # Annotated
        return spelled(parts[0])
    return {
        type(None): "null",
        Any: "any",
        str: "text",
        int: "integer",
        float: "number",
        bool: "true or false",
        date: "date",
    }[annotation]


_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "at least", "max_length": "at most"}


def limits(field: Any) -> str:
    """The bounds that a value is checked against, of numbers and of the length of lists."""
    bounds = ((sign, getattr(bound, name, None)) for bound in field.metadata for name, sign in _SIGNS.items())
    said = [f"{sign} {value}" for sign, value in bounds if value is not None]
    return "".join(f", {bound}" for bound in said)


def default(field: Any) -> str:
    """The default as YAML has it; a configuration's own defaults stand in its section."""
    if field.default is PydanticUndefined:
        return "*required*"
    if isinstance(field.default, BaseModel):
        changed = field.default.model_dump(exclude_defaults=True)
        return f"`{changed}`" if changed else "its defaults"
    if field.default is None:
        return "null"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    if isinstance(field.default, tuple):
        return f"`[{', '.join(map(str, field.default))}]`"
    return f"`{field.default!r}`" if isinstance(field.default, str) else f"`{field.default}`"


def tables() -> str:
    """Every table and column: type, unit, range, meaning."""
    from safespan.results import POOLED_TABLES, TABLES, columns_of, schema_of

    names = {"String": "text", "Float64": "number", "Int64": "integer", "Boolean": "true or false"}
    parts = []
    for name, row in (TABLES | POOLED_TABLES).items():
        types = {column: names[str(kind())] for column, kind in schema_of(row).items()}
        rows = [
            (f"`{column}`", types[column], described.unit, described.range, described.text)
            for column, described in columns_of(row).items()
        ]
        intro = " ".join((row.__doc__ or "").split())
        parts.append(f"## {name}\n\n{intro}\n\n{table(('column', 'type', 'unit', 'range', 'meaning'), rows)}")
    return "\n".join(parts)


def names() -> str:
    """Every public name of the package."""
    import safespan

    lines = []
    for name in safespan.__all__:
        kind = "autoclass" if isinstance(getattr(safespan, name), type) else "autofunction"
        lines += [f".. {kind}:: safespan.{name}", *(["   :members:"] if kind == "autoclass" else []), ""]
    return "```{eval-rst}\n" + "\n".join(lines) + "```\n"


PAGES = {"commands": commands, "fields": fields, "tables": tables, "names": names}
"""What a page can ask for."""
