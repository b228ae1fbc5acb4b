"""`make bench-large`: the sweep of a 1 B-parameter triple and of one with twice the layers, by the command line.

Base, aligned and two fine-tunes in bf16, 2.5 GB each, 4.4 GB each with 32 layers. They are made in the scratch folder a
shard at a time, one family after the other, and removed afterwards; so are the spectra that the command keeps.
"""

import argparse
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # of the repository: benchmarks/ is in no package

from benchmarks.common.checkpoints import LLAMA_1B, Shape, options
from benchmarks.common.measured import command, in_process
from benchmarks.machine.machine import machine
from benchmarks.speed.bench import RESULTS, SAFESPAN, keep, runs_folder, size_of

FINETUNES = ("useful", "harmful")


def swept(folder: Path, shape: Shape, flags: list[str]) -> dict[str, Any]:
    """Make the family, sweep it, remove it."""
    family, cache = folder / "family", folder / "cache"
    try:
        made = in_process("common.checkpoints", "family", folder=family, shape=options(shape), finetunes=FINETUNES)
        print(f"{shape.layers} layers: {made['result'] / 1e9:.1f} GB made in {made['wall']:.0f} s", flush=True)
        asked: list[str | Path] = [SAFESPAN, "sweep", "--base", family / "base", "--aligned", family / "aligned"]
        for role in FINETUNES:
            asked += ["--finetuned", f"{role}={family / role}"]
        table = folder / "grid.csv"
        run = command([*asked, "--out", table, *flags], {"SAFESPAN_CACHE": str(cache)})
        points = len(table.read_text(encoding="utf-8").splitlines()) - 1
        print(f"{points} points: {run['wall']:.0f} s, peak {run['peak'] / 1e9:.1f} GB", flush=True)
        sizes = {"layers": shape.layers, "largest": shape.largest(), "checkpoint_bytes": made["result"]}
        return {**sizes, "points": points, "cache_bytes": size_of(cache), **run}
    finally:
        for made_here in (family, cache):
            shutil.rmtree(made_here, ignore_errors=True)


def main() -> None:
    """Sweep both sizes and keep the figures of each as soon as they stand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, help="folder for up to 30 GB of checkpoints and spectra")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file that the figures go to")
    parser.add_argument("--layers", type=int, default=LLAMA_1B.layers, help="of the smaller family")
    parser.add_argument("--vocabulary", type=int, default=LLAMA_1B.vocabulary, help="rows of the embedding")
    parser.add_argument("--no-cache", action="store_true", help="sweep with --no-cache")
    chosen = parser.parse_args()
    flags = ["--no-cache"] if chosen.no_cache else []
    shape = replace(LLAMA_1B, layers=chosen.layers, vocabulary=chosen.vocabulary)
    keep(chosen.results, "large", {"machine": machine(), "flags": flags, "shape": options(shape)}, afresh=True)
    with tempfile.TemporaryDirectory(dir=chosen.scratch or runs_folder()) as folder:
        for name, times in (("once", 1), ("twice", 2)):
            figures = swept(Path(folder), replace(shape, layers=times * shape.layers), flags)
            keep(chosen.results, "large", {name: figures})


if __name__ == "__main__":
    main()
