"""Detection of keys and passwords in configurations, and their removal from messages."""

import os
import re
from collections.abc import Iterator
from typing import Any

_FIELDS = re.compile(
    r"(?:.*_)?(?:api_?key|(?:access|auth|hf|bearer|api)_?token|passw(?:or)?d|secret(?:_?key)?)"
    r"|token|authorization|credentials?",
    re.IGNORECASE,
)
"""Names of fields whose values are secret; `eos_token` is none."""
_VARIABLES = re.compile(r".*(?:KEY|TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIALS?)", re.IGNORECASE)
"""Names of environment variables whose values are secret."""
_VALUES = re.compile(
    r"\b(?:sk-[\w-]{16,}|hf_\w{20,}|AKIA[A-Z0-9]{16}|AIza[\w-]{30,}|gh[pousr]_\w{30,}|xox[bap]-[\w-]{10,})"
    r"|(?<=bearer )\S{8,}",
    re.IGNORECASE,
)
"""The form of keys of common providers."""
_IN_URL = re.compile(r"(:/{1,2})[^/\s@'\"]+@")
"""Name and password before the host of a URL; a URL that passed through a Path has one slash."""
_SHORTEST = 6
"""Minimum length of a secret value to remove; shorter ones occur in ordinary words."""


def secret_field(fields: Any) -> str | None:
    """The first field of a configuration that holds a key or password, dotted; None if there is none.

    A field is secret by its name (`api_key`, `token`, `password`), or by its value: a provider's key or a URL with a
    password. A field that names an environment variable (`api_key_env`) is not secret.
    """
    return next(_secret_fields(fields, ""), None)


def _secret_fields(value: Any, field: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _secret_fields(inner, f"{field}.{redacted(str(name))}" if field else redacted(str(name)))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _secret_fields(inner, f"{field}.{number}")
    elif isinstance(value, str) and value:
        parents, _, last = field.rpartition(".")
        named = _FIELDS.fullmatch(last) and not parents.endswith("where")  # which names fields of data sets
        if named or _VALUES.search(value) or _IN_URL.search(value) or _in_pairs(value):
            yield field


def _in_pairs(value: str) -> bool:
    """Whether arguments written as `name=value,name=value` name a secret."""
    return any(_FIELDS.fullmatch(part.partition("=")[0].strip()) for part in value.split(",") if "=" in part)


def redacted(text: str) -> str:
    """A text with `***` for every secret of the environment, key of a common provider and password in a URL."""
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and _VARIABLES.fullmatch(name):
            text = text.replace(value, "***")
    return _IN_URL.sub(r"\1***@", _VALUES.sub("***", text))
