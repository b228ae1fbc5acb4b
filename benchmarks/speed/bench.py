"""Where and how a run measures, and the file that its figures go to."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.common.checkpoints import Shape, options
from benchmarks.common.measured import in_process
from benchmarks.speed.sizes import FINETUNES, Sizes

from safespan.files.atomic import write_json

RESULTS = ROOT / "docs" / "performance" / "results.json"
SAFESPAN = ROOT / ".venv" / "bin" / "safespan"


@dataclass(frozen=True)
class Bench:
    """Where and how a run measures."""

    scratch: Path
    sizes: Sizes
    repeats: int

    @property
    def family(self) -> Path:
        """The main family of checkpoints, made when it is first asked for."""
        return made(self.scratch / "family", self.sizes.shape)

    def fresh(self, name: str) -> Path:
        """A path in the scratch folder at which there is nothing."""
        shutil.rmtree(self.scratch / name, ignore_errors=True)
        return self.scratch / name


def made(folder: Path, shape: Shape) -> Path:
    if not folder.exists():
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        in_process("common.checkpoints", "family", folder=part, shape=options(shape), finetunes=FINETUNES)
        part.rename(folder)
    return folder


def bare(run: dict[str, Any]) -> dict[str, Any]:
    """The figures of a run without what it computed."""
    return {name: value for name, value in run.items() if name != "result"}


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def runs_folder() -> Path:
    folder = ROOT / "runs"
    folder.mkdir(exist_ok=True)
    return folder


def keep(path: Path, target: str, figures: dict[str, Any], afresh: bool = False) -> None:
    """Add figures to one target's part of the results."""
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    results[target] = {**({} if afresh else results.get(target, {})), **figures}
    write_json(path, results)
