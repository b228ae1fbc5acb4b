"""Numbered stages of a run: each is done once for one key, timed, and shown as it goes."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, TypeAdapter

from safespan.errors import ConfigError
from safespan.progress import note, step
from safespan.results import SCHEMAS, RunFolder, content_hash, write_json

_TRAINING = "checkpoints/*/training.json"
_JUDGE = "judge/*/totals.json"
_RECORDED = ("safespan", "torch", "transformers", "trl", "lm-eval", "datasets", "polars", "altair", "numpy")


def key_of(*parts: Any) -> str:
    """A short hash of settings and inputs; equal keys mean equal work."""
    text = json.dumps([version("safespan"), *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def file_hashes(config: BaseModel | None) -> dict[str, str]:
    """Field -> SHA-256 of every file that a configuration names, so that a changed file is a changed input."""
    found: dict[str, str] = {}

    def walk(field: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(f"{field}.{name}" if field else name, inner)
        elif isinstance(value, str) and os.path.isfile(value):
            found[field] = str(content_hash(Path(value)))

    walk("", config.model_dump(mode="json") if config else {})
    return found


def _stands(output: Path) -> bool:
    """Whether an output is there and, if it is a table, has the columns that it has today."""
    if output.suffix != ".csv" or not output.exists():
        return output.exists()
    with output.open(encoding="utf-8") as lines:
        return lines.readline().rstrip("\n").split(",") == list(SCHEMAS[output.stem])


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def environment() -> dict[str, dict[str, Any]]:
    """What a result may depend on beside its configuration and inputs: `versions` and `hardware`."""
    return {
        "versions": {"python": platform.python_version(), **{package: version(package) for package in _RECORDED}},
        "hardware": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


class _Done(BaseModel):
    """What is noted of a stage that was done."""

    key: str
    seconds: float
    outputs: dict[str, str | None] = {}


class Stages:
    """The stages of one run folder, and what the manifest says of them.

    Args:
        run: the run folder; what an earlier run finished there is found again.
        names: all stages, in their order.
    """

    def __init__(self, run: RunFolder, names: Sequence[str]) -> None:
        """Read what was finished before."""
        self._run = run
        self._names = list(names)
        self._file = run.root / "stages.json"
        self._known: dict[str, dict[str, Any]] = {}
        if self._file.exists():
            try:
                self._known = json.loads(self._file.read_text(encoding="utf-8"))
                TypeAdapter(dict[str, _Done]).validate_python(self._known)
            except (ValueError, RecursionError) as error:
                reason = str(error).partition("\n")[0]
                raise ConfigError(f"{self._file} is broken ({reason}): remove it to redo the run's stages") from None
        self.log: list[dict[str, Any]] = []

    def stage(self, name: str, key: str, outputs: Sequence[Path], work: Callable[[], None]) -> None:
        """Do `work` unless it was done before with the same key and its outputs are what was written then."""
        known, label = self._known.get(name), f"{self._names.index(name) + 1}/{len(self._names)} {name}"
        if known and known["key"] == key and all(map(_stands, outputs)):
            changed = self._changed(known)
            if not changed:
                self.log.append({"name": name, "seconds": known["seconds"], "reused": True})
                note(f"{label}: done before")
                return
            note(f"{label}: {changed[0]} is not what was written; done again")
        start = time.perf_counter()
        with step(label):
            work()
        seconds = round(time.perf_counter() - start, 2)
        self.log.append({"name": name, "seconds": seconds, "reused": False})
        self._known[name] = {"key": key, "seconds": seconds, "outputs": self._hashes(outputs)}
        write_json(self._file, self._known)

    def _tables(self) -> dict[str, str]:
        """Table -> SHA-256 of its file, so that a study that is run again can be compared."""
        outputs = [self._known[name].get("outputs", {}) for name in self._names if name in self._known]
        found = {Path(file): written for files in outputs for file, written in files.items()}
        return {file.stem: written for file, written in found.items() if file.suffix == ".csv"}

    def _hashes(self, outputs: Sequence[Path]) -> dict[str, str | None]:
        """File -> SHA-256, of outputs and all files in those that are folders."""
        files = [file for path in outputs for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
        return {str(file.relative_to(self._run.root)): content_hash(file) for file in sorted(files)}

    def _changed(self, known: dict[str, Any]) -> list[str]:
        """Files of a finished stage that are gone or other than they were; an earlier version noted no hashes."""
        outputs: dict[str, str] = known.get("outputs", {})
        return [file for file, written in outputs.items() if content_hash(self._run.root / file) != written]

    def write_manifest(
        self, name: str, command: str, config: dict[str, Any], seed: int, inputs: dict[str, str]
    ) -> None:
        """Write what was run, with what, where, and how long each stage took."""
        manifest = {
            "name": name,
            "command": command,
            "config": config,
            "seed": seed,
            **environment(),
            "stages": self.log,
            "inputs": inputs,
            "tables": self._tables(),
            "prompts": _read(self._run.prompts),
            "judge": [_read(path) for path in sorted(self._run.root.glob(_JUDGE))],
            "training": {path.parent.name: _read(path) for path in sorted(self._run.root.glob(_TRAINING))},
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(self._run.manifest, manifest)
