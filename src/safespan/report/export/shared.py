"""A run as it is shown to others: without secrets, and with names of files and folders in place of local paths."""

import re
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path
from typing import Any

import polars as pl

from safespan.report.loaded import Run
from safespan.results import Manifest
from safespan.settings.model_names import split_adapter
from safespan.settings.redaction import redacted

SHORTENED = (
    "Local paths are shortened to the name of the file or folder, with a number if two names are equal. `{run}` is the "
    "folder of the run, `~` a home folder. Names on the hub and URLs are as they were given."
)

_HOME = re.compile(r"(?<![\w.~-])/(?:home|Users)/[^/\s'\"]+")
"""The home folder of a user, who may not want to be named."""
_PART = r"(?:(?!\+~?/)[^\s/'\"`,;:|<>()\[\]{}])+"
"""One name in a path, up to the `+` between a model and its adapter."""
_IN_TEXT = re.compile(
    r"(?P<url>\b(?!file:)[A-Za-z][\w+.-]*://\S*|\bhttps?:/\S*)"
    r"|(?<=['\"])~?/[^'\"\n]+(?=['\"])"  # between quotes, a path may have spaces
    rf"|(?<![\w/.}}~-])(?:~[\w.-]*)?(?:/+{_PART})+/*"
)
_ALONE = re.compile(r"~?/(?:(?!\s[/~])[^\n'\"])+")
"""A text that is one path, which may have spaces."""
_SUFFIX = re.compile(r"(?<=.)\.[A-Za-z]\w*$")
_INPUTS = {"model", "file", "task"}
"""Fields that name inputs. A relative name in one of them is taken."""


def shared(run: Run) -> Run:
    """The same run with a manifest and names of recipes that can be published; all else in its tables is the same.

    Each path keeps its last part. Two paths with the same last part get different names, so that no input of the study
    is taken for another one.
    """
    return _shared(run, _Names(run))


def _shared(run: Run, names: "_Names") -> Run:
    shown = _SharedRun.__new__(_SharedRun)
    vars(shown).update({**vars(run), "names": names})
    shown.manifest = Manifest.model_validate(names.value(run.manifest.model_dump(mode="json")))
    shown.problems = names.value(run.problems)
    shown.seeds = {seed: _shared(one, names) for seed, one in run.seeds.items()}
    return shown


class _SharedRun(Run):
    """A run whose tables name a recipe by the title that can be published."""

    names: "_Names"

    def table(self, name: str) -> pl.DataFrame:
        table = super().table(name)
        if "recipe" not in table.columns:
            return table
        return table.with_columns(pl.Series("recipe", self.names.value(table["recipe"].to_list()), pl.String))


class _Names:
    """The short names of all local paths in the manifests of a run."""

    def __init__(self, run: Run) -> None:
        self._folders = [(str(folder), "{run}") for folder in {run.folder.root.resolve(), run.folder.root.absolute()}]
        self._folders.append((str(Path.home()), "~"))
        self._names: dict[str, str] = {}
        manifests = [one.manifest for one in (*run.seeds.values(), run)]
        fields = list(_fields([[manifest.config, manifest.training] for manifest in manifests]))
        self._taken = {text for field, text in fields if field in _INPUTS and not _ALONE.fullmatch(text)}
        for _, text in fields:
            if _ALONE.fullmatch(plain := self._plain(text)):
                self._alone(plain)

    def value(self, value: Any) -> Any:
        """A value of a manifest without secrets and local paths: text, or lists and mappings with texts in them."""
        if isinstance(value, dict):
            return {self._text(name): self.value(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner) for inner in value]
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        text = self._plain(text)
        for path in sorted(self._names, key=len, reverse=True):
            text = _replaced(text, path, self._names[path])
        return _IN_TEXT.sub(self._found, text)

    def _plain(self, text: str) -> str:
        """The text without secrets, the run's folder and home folders."""
        text = redacted(text)
        for folder, name in self._folders:
            if len(folder) > 1:
                text = _replaced(text, folder, name)
        return _HOME.sub("~", text)

    def _found(self, found: re.Match[str]) -> str:
        path = found[0].rstrip(".")
        return found[0] if found["url"] else self._alone(path) + found[0][len(path) :]

    def _alone(self, path: str) -> str:
        """The short name of a path, or of a model with an adapter."""
        if pair := split_adapter(path):
            return "+".join(self._alone(part) if part.startswith(("/", "~/")) else part for part in pair)
        path = path.rstrip("/")
        if path not in self._names and (name := Path(path).name) not in ("", "~"):
            self._names[path] = self._free(name)
            self._taken.add(self._names[path])
        return self._names.get(path, path or "/")

    def _free(self, name: str) -> str:
        found = _SUFFIX.search(name)
        suffix = found[0] if found else ""
        numbered = (f"{name.removesuffix(suffix)} ({number}){suffix}" for number in count(2))
        return next(free for free in chain([name], numbered) if free not in self._taken)


def _replaced(text: str, path: str, name: str) -> str:
    """The text with a name in place of a path, and of no longer name that begins alike."""
    return re.sub(rf"(?<![\w/.}}~-]){re.escape(path)}(?![\w-]|\.\w)", lambda _: name, text)


def _fields(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """(last field, text) of every text in a value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _fields(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _fields(inner, field)
    elif isinstance(value, str):
        yield field, value
