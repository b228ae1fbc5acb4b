"""The base class of all settings, and functions on their fields."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from safespan.settings.names import repeated, unknown
from safespan.settings.redaction import redacted

TEMPLATE_DATE = date(2025, 1, 1)
"""Today, for chat templates that ask for it."""

TEMPLATE_DATE_MEANING = "the date of today that chat templates are told, so that results do not depend on the day"

_SHOWN = 80
"""Characters of a value in a message."""

InputKind = Literal["file", "folder", "task"]


@dataclass(frozen=True)
class Names:
    """Marks a field that names an input on disk: a file, a folder that may be absent, or an lm-eval task."""

    kind: InputKind


class Settings(BaseModel):
    """Fields of a configuration file. They are immutable, and unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    in_files: ClassVar[tuple[str, ...]] = ()
    """What a file can have beside the fields, which others are made of."""

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, value: Any) -> Any:
        fields = tuple(cls.model_fields)
        for name in value if isinstance(value, dict) else ():
            if name not in fields:
                raise ValueError(unknown("field", str(name), (*fields, *cls.in_files)))
        return value

    @field_validator("*")
    @classmethod
    def _each_value_once(cls, values: Any) -> Any:
        if isinstance(values, tuple) and (problem := repeated(values)):
            raise ValueError(problem)
        return values


def named_inputs(settings: BaseModel, parents: str = "") -> Iterator[tuple[str, InputKind, str]]:
    """Yield (dotted field, kind of input, text) of every field that is marked with `Names` and set."""
    for name, info in type(settings).model_fields.items():
        field, value = f"{parents}{name}", getattr(settings, name)
        marks = [mark for mark in info.metadata if isinstance(mark, Names)]
        if isinstance(value, BaseModel):
            yield from named_inputs(value, f"{field}.")
        elif marks and value is not None:
            yield field, marks[0].kind, value


def fill_preset(value: Any, kind: type[BaseModel], presets: Mapping[str, dict[str, Any]], text_field: str) -> Any:
    """Replace the `preset` in the fields of a configuration by the fields of that preset.

    Args:
        value: the fields; or a text, which is the name of a preset or else the value of `text_field`.
        kind: the class of the configuration. Fields of the preset that it does not have are left out.
        presets: name -> fields.
        text_field: the field that a text stands for.
    """
    if isinstance(value, str):
        value = {"preset": value} if value in presets else {text_field: value}
    if not isinstance(value, dict) or "preset" not in value:
        return value
    if not isinstance(name := value["preset"], str) or name not in presets:
        raise ValueError(unknown("preset", str(name), tuple(presets)))
    fields = {field: inner for field, inner in value.items() if field != "preset"}
    # A file beside a preset is a local copy of its data set.
    replaced = {"dataset", "subset", "split"} if fields.get("file") is not None else set()
    allowed = kind.model_fields.keys() - replaced
    return {**{field: inner for field, inner in presets[name].items() if field in allowed}, **fields}


_EXPECTED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("tuple_type", "list_type"), "a list, such as [a, b]"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "named fields"),
    "string_type": "a text",
    "finite_number": "a finite number",
    "greater_than": "a number greater than {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number less than {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "string_too_short": "a text of at least {min_length} characters",
    "literal_error": "{expected}",
    "union_tag_invalid": "one of {expected_tags} as {discriminator}",
    "union_tag_not_found": "the field {discriminator}",
}
"""Kind of a problem, as pydantic names it -> what is expected."""


def first_problem(error: ValidationError) -> tuple[str, str]:
    """The dotted field of the first problem that pydantic reports, and a message about it in our words."""
    problem = error.errors()[0]
    field, kind, told = ".".join(map(str, problem["loc"])), problem["type"], problem["msg"]
    if kind == "value_error":
        return field, told.removeprefix("Value error, ")
    if kind == "missing":
        return field, "it is missing: give it"
    context = problem.get("ctx", {})
    given = context["tag"] if kind == "union_tag_invalid" else problem["input"]
    expected = _EXPECTED.get(kind)
    return field, f"{f'expected {expected.format(**context)}' if expected else told}, given {shown(given)}"


def shown(value: object) -> str:
    """A value of a YAML file in a message, in short and without secrets."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "named fields" if value else "no fields"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, bool):
        return str(value).lower()
    text = redacted(repr(value) if isinstance(value, str) else str(value))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"
