"""Configuration files: YAML, changed by FIELD=VALUE settings, checked against a model that names the wrong field."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from safespan.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


def load_settings(path: Path, kind: type[Model], settings: Sequence[str] = ()) -> Model:
    """Read a YAML file as a configuration, after applying settings such as `seed=1` or `data.rows=50`.

    A file that says `extends: OTHER.yaml` starts from that file's fields; what it says itself counts instead.

    Raises:
        ConfigError: the file is missing or not YAML, or a field is unknown, absent or wrong; names the field.
    """
    return check_settings(read_fields(path), kind, settings, str(path))


def read_fields(path: Path, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The fields of a YAML file, over those of the file that it extends.

    Raises:
        ConfigError: the file is missing or not YAML, or files extend each other.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} should hold named fields, not {type(raw).__name__}")
    if "extends" not in raw:
        return raw
    parent = path.parent / str(raw.pop("extends"))
    if parent in extended_by:
        raise ConfigError(f"{path} extends {parent}, which extends it in turn")
    return _merged(read_fields(parent, (*extended_by, parent)), raw)


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Fields that `over` adds, then those of `under`; what `over` says counts, field by field when nested.

    In this order a model that is trained from another stands below it, whichever file names which.
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
        ConfigError: a setting is not FIELD=VALUE, or a field is unknown, absent or wrong; says where.
    """
    raw = deepcopy(raw)
    for setting in settings:
        _apply(raw, setting)
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}: {field + ': ' if field else ''}{message}") from None


def _apply(raw: dict[str, Any], setting: str) -> None:
    field, equals, text = setting.partition("=")
    if not equals or not field:
        raise ConfigError(f"--set {setting!r}: expected FIELD=VALUE, such as seed=1")
    *parents, last = field.split(".")
    place = raw
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {setting!r}: {parent} has no fields of its own")
    try:
        place[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {setting!r}: {text!r} is not a YAML value") from None
