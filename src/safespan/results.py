"""The tables' schemas, the run folder, and writing that is never half done."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from safespan.durable import put, scratch_folder, writing
from safespan.errors import DataError

OUTCOMES: dict[str, Any] = {
    "utility": pl.Float64,
    "utility_ci_low": pl.Float64,
    "utility_ci_high": pl.Float64,
    "utility_by_filter": pl.String,
    "harmfulness": pl.Float64,
    "attack_success_rate": pl.Float64,
    "asr_ci_low": pl.Float64,
    "asr_ci_high": pl.Float64,
    "refusal_rate": pl.Float64,
    "over_refusal_rate": pl.Float64,
    "general_ability": pl.Float64,
    "n_utility": pl.Int64,
    "n_harmful": pl.Int64,
    "n_benign": pl.Int64,
    "n_general": pl.Int64,
    "n_judge_failed": pl.Int64,
    "valid": pl.Boolean,
}
"""What an evaluated model gives: rates in [0, 1], harmfulness in [1, 5], 95 % Wilson intervals, counts.

`utility_by_filter` has the utility under each filter; `valid` is false where over 2 % of the judgements failed.
"""

ENERGIES: dict[str, Any] = {
    "finetune": pl.String,
    "subspace": pl.String,
    "method": pl.String,
    "fraction": pl.Float64,
    "seed": pl.Int64,
    "energy_kept": pl.Float64,
    "cosine_task_projection": pl.Float64,
    "cosine_task_alignment": pl.Float64,
}
"""A point of the projection grid (METHODS §2), before any evaluation."""

SCHEMAS: dict[str, dict[str, Any]] = {
    "models": {"model": pl.String, **OUTCOMES},
    "projection": {**ENERGIES, **OUTCOMES},
    "removed_energy": {
        "finetune": pl.String,
        "subspace": pl.String,
        "method": pl.String,
        "fraction": pl.Float64,
        "seed": pl.Int64,
        "layer": pl.String,
        "module": pl.String,
        "removed_energy": pl.Float64,
        "share_of_update": pl.Float64,
    },
    "trials": {
        "finetune": pl.String,
        "hypothesis": pl.String,
        "method": pl.String,
        "fraction": pl.Float64,
        "draw": pl.Int64,
        "energy_kept": pl.Float64,
        "useful_nll": pl.Float64,
        "harmful_nll": pl.Float64,
        "log_odds": pl.Float64,
        "utility": pl.Float64,
        "attack_success_rate": pl.Float64,
        "general_ability": pl.Float64,
        "refusal_rate": pl.Float64,
        "over_refusal_rate": pl.Float64,
    },
    "verdicts": {
        "hypothesis": pl.String,
        "kind": pl.String,
        "outcome": pl.String,
        "method": pl.String,
        "verdict": pl.String,
        "direction": pl.String,
        "s": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "p_beyond": pl.Float64,
        "p_within": pl.Float64,
        "area": pl.Float64,
        "control_area": pl.Float64,
        "control_sd": pl.Float64,
        "sd_prompts": pl.Float64,
        "sd_controls": pl.Float64,
        "prompts_needed": pl.Int64,
        "controls_needed": pl.Int64,
        "reason": pl.String,
    },
    "overlap": {
        "pair": pl.String,
        "group": pl.String,
        "granularity": pl.String,
        "layer": pl.String,
        "module": pl.String,
        "energy_fraction": pl.Float64,
        "k_x": pl.Int64,
        "k_y": pl.Int64,
        "mso": pl.Float64,
        "mso_random": pl.Float64,
        "mso_random_sd": pl.Float64,
        "p_value": pl.Float64,
        "angle_min": pl.Float64,
        "angle_median": pl.Float64,
    },
    "spectra": {
        "update": pl.String,
        "tensor": pl.String,
        "layer": pl.String,
        "module": pl.String,
        "n": pl.Int64,
        "rank": pl.Int64,
        "singular_value": pl.Float64,
        "energy": pl.Float64,
        "effective_rank": pl.Float64,
        "stable_rank": pl.Float64,
        "share_of_update": pl.Float64,
    },
    "activations": {
        "model": pl.String,
        "pair": pl.String,
        "layer": pl.Int64,
        "centered": pl.Boolean,
        "energy_fraction": pl.Float64,
        "k_x": pl.Int64,
        "k_y": pl.Int64,
        "mso": pl.Float64,
        "mso_random": pl.Float64,
        "mso_low": pl.Float64,
        "mso_high": pl.Float64,
        "p_value": pl.Float64,
    },
    "separation": {
        "model": pl.String,
        "layer": pl.Int64,
        "n_useful": pl.Int64,
        "n_harmful": pl.Int64,
        "folds": pl.Int64,
        "probe_auroc": pl.Float64,
        "probe_auroc_low": pl.Float64,
        "probe_auroc_high": pl.Float64,
        "mean_difference_auroc": pl.Float64,
        "mean_difference_auroc_low": pl.Float64,
        "mean_difference_auroc_high": pl.Float64,
        "mean_difference_ratio": pl.Float64,
    },
}
"""Column names and types of every table in `results/`."""

_SIGNIFICANT = ("singular_value", "share_of_update")
"""Columns of any scale, written to six significant digits where the others have six decimals."""


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write a file or make a folder at; rename it to `target` on success.

    A folder that stands at `target` is replaced. What is renamed is on the disk, and outlasts a power cut. On any
    exception nothing is left behind.

    Raises:
        ConfigError: nothing can be written there.
        DiskFullError: there is no space for it.
    """
    with writing(target), scratch_folder(target.parent, target.name) as scratch:
        yield scratch / target.name
        put(scratch / target.name, target)


def is_plain_name(name: str) -> bool:
    """Whether a name is that of a file in a folder, and cannot lead out of it."""
    return Path(name).name == name and name not in ("", "..") and "\0" not in name


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in one step."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON in one step, its fields in their order."""
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def content_hash(path: Path) -> str | None:
    """SHA-256 of a file; None if there is none."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line in one step."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read what `write_jsonl` wrote."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], schema: Mapping[str, Any]) -> pl.DataFrame:
    """Write `rows` as CSV with the columns of `schema`, NaN as an empty cell; return the table."""
    table = pl.DataFrame(list(rows), schema=dict(schema)).with_columns(pl.selectors.float().fill_nan(None))
    of_any_scale = pl.selectors.by_name(*_SIGNIFICANT, require_all=False).round_sig_figs(6).cast(pl.String)
    with atomic_path(path) as part:
        table.with_columns(of_any_scale).write_csv(part, float_precision=6)
    return table


@dataclass(frozen=True)
class RunFolder:
    """Where everything of one run lies."""

    root: Path

    @property
    def data(self) -> Path:
        """Training rows, prompts and tasks that the run made for itself."""
        return self.root / "data"

    @property
    def manifest(self) -> Path:
        """What was run, with what, where and how long."""
        return self.root / "manifest.json"

    @property
    def report(self) -> Path:
        """The page."""
        return self.root / "report.html"

    @property
    def figures(self) -> Path:
        """The page's charts as SVG files."""
        return self.root / "figures"

    @property
    def captured(self) -> Path:
        """Activations of the aligned model, for the hypotheses that need them."""
        return self.root / "captured.safetensors"

    def checkpoint(self, role: str) -> Path:
        """The folder of the model in that role."""
        return self.root / "checkpoints" / role

    def table(self, name: str) -> Path:
        """The CSV file of a table of `SCHEMAS`."""
        return self.root / "results" / f"{name}.csv"

    @property
    def prompts(self) -> Path:
        """How many prompts of each kind were asked, and their hashes."""
        return self.root / "prompts.json"

    def generations(self, name: str) -> Path:
        """What one model said, with scores."""
        return self.root / "generations" / f"{name}.jsonl"

    def has(self, path: Path) -> bool:
        """Whether a file of this folder is there.

        Raises:
            DataError: it is a link out of the folder, such as a run from elsewhere may hold.
        """
        if not os.path.isfile(path):
            return False
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise DataError(f"{path} is a link out of its run folder: put a copy of the file in its place")
        return True

    def read_table(self, name: str) -> pl.DataFrame:
        """Read a table with its types."""
        return pl.read_csv(self.table(name), schema=SCHEMAS[name])
