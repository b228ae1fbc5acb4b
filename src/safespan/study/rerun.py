"""A study again, from its manifest alone."""

import logging
from collections.abc import Mapping
from pathlib import Path

from safespan.errors import ConfigError
from safespan.results import Manifest, RunFolder
from safespan.settings import StudyConfig, check_settings
from safespan.study.context import READS
from safespan.study.keys import input_hashes
from safespan.study.machine import hardware, versions
from safespan.study.run import run_study

_log = logging.getLogger(__name__)

_PARTS = ("config", "versions", "hardware", "inputs", "prompts", "tables")
"""Parts of a manifest that a study is run again from, or compared with."""

_WORKERS = ("workers", "threads_per_worker")
"""Parts of the hardware that are known when a study has run."""


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
        ConfigError: the manifest lacks a part that is needed, or `out` is its own folder.
        DataError: no manifest.
        SafespanError: as `run_study`.
    """
    before = Manifest.read(manifest)
    if missing := [part for part in _PARTS if part not in before.model_fields_set]:
        raise ConfigError(
            f"{manifest} has no {', '.join(missing)}: expected the manifest.json of a run of this version"
        )
    if out.resolve() == manifest.resolve().parent:
        raise ConfigError(f"{out} holds the run itself: give another folder")
    config = check_settings(before.config, StudyConfig, (), str(manifest))
    present = {**hardware(), **({"threads": config.threads} if config.threads else {})}
    files = input_hashes(config.evaluation)  # not those that a run makes for itself, which name its folder
    _warn(differences("inputs", {name: before.inputs.get(name) for name in files}, files))
    _warn(differences("versions", before.versions, versions()))
    machine = {name: value for name, value in before.hardware.items() if name not in _WORKERS}
    _warn(differences("hardware", machine, present))
    report = run_study(config, out, command)
    after = RunFolder(out).read_manifest()
    workers = ({name: found.hardware.get(name) for name in _WORKERS} for found in (before, after))
    _warn(differences("hardware", *workers))
    of_models = [role + end for role in config.models for end in ("", READS)]
    models = ({name: found.inputs.get(name) for name in of_models} for found in (before, after))
    _warn(differences("inputs", *models))
    _warn(differences("prompts", _hashes(before), _hashes(after)))
    _warn(differences("tables", before.tables, after.tables))
    return report


def differences(part: str, before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """One line for each name whose value is another than before, or that only one side has."""
    names = [*before, *(name for name in after if name not in before)]
    return [
        f"{part}: {name} was {_short(before.get(name))}, is {_short(after.get(name))}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _hashes(manifest: Manifest) -> dict[str, str]:
    return {kind: prompts.sha256 for kind, prompts in manifest.prompts.items()}


def _short(value: object) -> str:
    """Of a hash its beginning."""
    text = "absent" if value is None else str(value)
    return f"{text[:12]}…" if len(text) == 64 else text


def _warn(lines: list[str]) -> None:
    for line in lines:
        _log.warning(line)
