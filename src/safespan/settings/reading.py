"""Reading and validating configuration files: YAML, changed by FIELD=VALUE settings."""

import os
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from safespan.errors import ConfigError, reason
from safespan.settings.base import first_problem, shown
from safespan.settings.redaction import secret_field

Model = TypeVar("Model", bound=BaseModel)


UNREADABLE = (ValueError, TypeError, AttributeError, RecursionError, OverflowError, yaml.YAMLError)
"""Errors that PyYAML raises: its own, and those of Python for invalid dates, invalid numbers and deep nesting."""
_MOST, _DEEPEST = 100_000, 50
"""Limits of the number of values in a file, with aliases written out, and of their nesting."""


class _Loader(yaml.SafeLoader):
    """Plain values only; a name that is given twice is an error."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"):
            if key.value in names:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            names.add(key.value)
        return super().construct_mapping(node, deep)


def _parsed(text: str) -> Any:
    value = yaml.load(text, Loader=_Loader)  # nosec B506
    _size(value, {}, 0)
    return value


def _size(value: Any, known: dict[int, int], depth: int) -> int:
    """Number of values with aliases written out. Each container is visited once."""
    if isinstance(value, str):
        value.encode()  # half a surrogate pair, which no record can hold, is a ValueError
    if not isinstance(value, dict | list):
        return 1
    if depth > _DEEPEST:  # or an alias of what it is in
        raise ValueError(f"nested deeper than {_DEEPEST} levels")
    if id(value) not in known:
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(part, known, depth + 1) for part in inner)
    if known[id(value)] > _MOST:
        raise ValueError(f"more than {_MOST} values, with aliases written out")
    return known[id(value)]


def load_settings(path: Path, kind: type[Model], settings: Sequence[str] = ()) -> Model:
    """Read a YAML file as a configuration, after applying settings such as `seed=1` or `data.rows=50`.

    A file with `extends: OTHER.yaml` inherits the fields of that file and overrides them with its own.

    Raises:
        ConfigError: the file is missing or not YAML, or a field is unknown, absent or wrong; names the field.
    """
    return check_settings(read_fields(path), kind, settings, str(path))


def read_fields(path: Path, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The fields of a YAML file, merged with those of the file that it extends.

    Raises:
        ConfigError: the file is missing or not YAML, or files extend each other.
    """
    try:
        raw = _parsed(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:  # its own text quotes the line, which may hold a secret
        where = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"cannot read {path}: {error.problem}{where}") from None
    except (*UNREADABLE, OSError) as error:
        raise ConfigError(f"cannot read {path}: {reason(error)}") from None
    if not isinstance(raw, dict):
        held = "is empty" if raw is None else f"holds {shown(raw)}"
        raise ConfigError(f"{path} {held}: expected named fields, such as `seed: 1`")
    if "extends" not in raw:
        return raw
    parent = Path(os.path.realpath(path.parent / str(raw.pop("extends"))))
    if parent in extended_by:
        raise ConfigError(f"{path} extends {parent}, which extends it in turn")
    return _merged(read_fields(parent, (*extended_by, parent)), raw)


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Fields that `over` adds, then those of `under`; values of `over` win, and nested fields are merged.

    In this order a model comes after the model it is trained from, whichever file defines which.
    """
    added = {name: value for name, value in over.items() if name not in under}
    return added | {
        name: _merged(value, over[name])
        if isinstance(value, dict) and isinstance(over.get(name), dict)
        else over.get(name, value)
        for name, value in under.items()
    }


def check_settings(raw: dict[str, Any], kind: type[Model], settings: Sequence[str], where: str) -> Model:
    """Apply settings to fields that were already read, and validate them.

    Raises:
        ConfigError: a setting is not FIELD=VALUE, or a field is unknown, absent or wrong; says where, which is
            `--set` for what is not wrong without the settings.
    """
    given, raw = raw, deepcopy(raw)
    for setting in settings:
        _apply(raw, setting)
    if field := secret_field(raw):
        place = where if secret_field(given) else "--set"
        raise ConfigError(
            f"{place}: {field} holds a secret, which every record of the run would repeat: keep keys and passwords in "
            "environment variables (api_key_env names that of a judge)"
        )
    checked = _checked(raw, kind)
    if not isinstance(checked, tuple):
        return checked
    if settings and _checked(given, kind) != checked:
        where = "--set"
    raise ConfigError(f"{where}: {': '.join(filter(None, checked))}")


def _checked(raw: dict[str, Any], kind: type[Model]) -> Model | tuple[str, str]:
    """The validated fields, or the first problem: its field and a message."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        return first_problem(error)


def _apply(raw: dict[str, Any], setting: str) -> None:
    field, equals, text = setting.partition("=")
    if not equals or not field:
        raise ConfigError(f"--set {setting!r}: expected FIELD=VALUE, such as seed=1")
    *parents, last = field.split(".")
    fields = raw
    for parent in parents:
        fields = fields.setdefault(parent, {})
        if not isinstance(fields, dict):
            raise ConfigError(f"--set {setting!r}: {parent} has no fields of its own")
    try:
        fields[last] = _parsed(text)
    except UNREADABLE:
        raise ConfigError(f"--set {field}: what follows the = is not a YAML value") from None
