"""Paths in a run folder."""

import os
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from safespan.errors import DataError
from safespan.results.manifest import Manifest
from safespan.results.table_files import read_table
from safespan.results.tables import TABLES


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    root: Path

    @property
    def data(self) -> Path:
        """Training rows, prompts and tasks that the run made for itself."""
        return self.root / "data"

    @property
    def manifest(self) -> Path:
        """The record of the run, see `Manifest`."""
        return self.root / "manifest.json"

    @property
    def report(self) -> Path:
        """The report page."""
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
        """The CSV file of a table of `TABLES`."""
        return self.root / "results" / f"{name}.csv"

    @property
    def prompts(self) -> Path:
        """How many prompts of each kind were asked, and their hashes."""
        return self.root / "prompts.json"

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
        return read_table(self.table(name), TABLES[name])

    def read_manifest(self) -> Manifest:
        """The manifest; without one, an empty manifest with the folder's name.

        Raises:
            DataError: it is not the manifest of a run.
        """
        return Manifest.read(self.manifest) if self.has(self.manifest) else Manifest(name=self.root.name)
