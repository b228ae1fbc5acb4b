"""Paths in a run folder."""

import os
from pathlib import Path

import polars as pl

from safespan.errors import ConfigError, DataError
from safespan.results.manifest import Manifest
from safespan.results.table_files import read_table
from safespan.results.tables import POOLED_TABLES, TABLES


class RunFolder:
    """The paths of one run.

    Attributes:
        root: the folder.
        data: training rows, prompts and tasks that the run made for itself.
        manifest: what was run, with what, where and how long.
        report: the page.
        figures: the page's charts as SVG and PDF files.
        captured: activations of the aligned model, for the hypotheses that need them.
        stages: which stages are done.
        roles: what speaks against the roles that the models were given.
        prompts: how many prompts of each kind were asked, and their hashes.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.data, self.figures = root, root / "data", root / "figures"
        self.manifest, self.prompts, self.roles = root / "manifest.json", root / "prompts.json", root / "roles.json"
        self.report, self.captured = root / "report.html", root / "captured.safetensors"
        self.stages = root / "stages.json"

    def check_there(self) -> None:
        """Refuse a folder that is not there.

        Raises:
            DataError: it is a file, or nothing.
        """
        if not os.path.isdir(self.root):  # unlike Path's, False for a name no file can have
            kind = "a file" if os.path.exists(self.root) else "not there"
            raise DataError(
                f"{self.root} is {kind}: expected a run folder, as `safespan run` or `safespan demo` writes it"
            )

    def checkpoint(self, role: str) -> Path:
        """The folder of the model in that role."""
        return self.root / "checkpoints" / role

    def table(self, name: str) -> Path:
        """The CSV file of a table of `TABLES`."""
        return self.root / "results" / f"{name}.csv"

    def tables(self, *names: str) -> tuple[Path, ...]:
        """The files of several tables."""
        return tuple(map(self.table, names))

    def generations(self, name: str) -> Path:
        """The responses of one model, with scores."""
        return self.root / "generations" / f"{name}.jsonl"

    def has(self, path: Path) -> bool:
        """Whether a file of this folder is there.

        Raises:
            DataError: it is a link out of the folder, which the run of someone else may contain.
        """
        if not os.path.isfile(path):
            return False
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise DataError(f"{path} is a link out of its run folder: put a copy of the file in its place")
        return True

    def read_table(self, name: str) -> pl.DataFrame:
        """Read a table with its types.

        Raises:
            DataError: it is not a table of this version.
        """
        return read_table(self.table(name), {**TABLES, **POOLED_TABLES}[name])

    def read_manifest(self) -> Manifest:
        """The manifest; without one, an empty manifest with the folder's name.

        Raises:
            DataError: it is not the manifest of a run.
        """
        manifest = Manifest.read(self.manifest) if self.has(self.manifest) else Manifest()
        return manifest.model_copy(update={"name": manifest.name or self.root.name})


def check_not_in_run(out: Path) -> None:
    """Refuse to write among the checkpoints of a run.

    Raises:
        ConfigError: the folder is that of the checkpoints, or in it.
    """
    for place in (out.absolute(), *out.absolute().parents):
        if place.name == "checkpoints" and RunFolder(place.parent).stages.exists():
            raise ConfigError(f"{out} is among the checkpoints of the run {place.parent}: give another folder")
