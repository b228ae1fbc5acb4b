"""A study again, from its manifest alone."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safespan.config import StudyConfig
from safespan.errors import ConfigError
from safespan.results import RunFolder
from safespan.settings import check_settings
from safespan.stages import environment, file_hashes
from safespan.study import run_study

_log = logging.getLogger(__name__)


def rerun(manifest: Path, out: Path, command: str = "safespan rerun") -> Path:
    """Run the study of a manifest again, and warn of whatever is not as it was then.

    Versions, hardware and the files that the evaluation names are compared before the study, models, prompts and tables
    after it. A difference ends nothing: a newer version is often the reason to run a study again.

    Args:
        manifest: a run's `manifest.json`; relative names in it are taken from the working folder, as they were then.
        out: the run folder, another than the manifest's.
        command: how to run it again.

    Returns:
        The path of the report.

    Raises:
        ConfigError: no manifest, or `out` is its own folder.
        SafespanError: as `run_study`.
    """
    before = read_manifest(manifest)
    if out.resolve() == manifest.resolve().parent:
        raise ConfigError(f"{out} holds the run itself: give another folder")
    config = check_settings(before["config"], StudyConfig, (), str(manifest))
    now = environment()
    if config.threads:
        now["hardware"]["threads"] = config.threads
    files = file_hashes(config.evaluation)  # not those that a run makes for itself, which name its folder
    _warn(differences("inputs", {name: before["inputs"].get(name) for name in files}, files))
    _warn([line for part in now for line in differences(part, before[part], now[part])])
    report = run_study(config, out, command)
    again = read_manifest(RunFolder(out).manifest)
    models = ({role: found["inputs"].get(role) for role in config.models} for found in (before, again))
    _warn(differences("inputs", *models))
    _warn(differences("prompts", _hashes(before["prompts"]), _hashes(again["prompts"])))
    _warn(differences("tables", before["tables"], again["tables"]))
    return report


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest, with the parts that a study is run again from.

    Raises:
        ConfigError: it cannot be read, or lacks one of them.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path} ({error}): expected the manifest.json of a run") from None
    parts = ("config", "versions", "hardware", "inputs", "prompts", "tables")
    lacks = parts if not isinstance(found, dict) else [part for part in parts if not isinstance(found.get(part), dict)]
    if lacks:
        raise ConfigError(f"{path} has no {', '.join(lacks)}: expected the manifest.json of a run of this version")
    return dict(found)


def differences(part: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for each name whose value is another than before, or that only one side has."""
    names = [*before, *(name for name in now if name not in before)]
    return [
        f"{part}: {name} was {_short(before.get(name))}, is {_short(now.get(name))}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def _hashes(prompts: Mapping[str, Any]) -> dict[str, str]:
    return {kind: asked["sha256"] for kind, asked in prompts.items()}


def _short(value: Any) -> str:
    """Of a hash its beginning."""
    text = "absent" if value is None else str(value)
    return f"{text[:12]}…" if len(text) == 64 else text


def _warn(lines: list[str]) -> None:
    for line in lines:
        _log.warning(line)
