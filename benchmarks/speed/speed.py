"""`make bench`: safespan beside the reference procedure and mergekit, in one run on the same files.

Every side is a process of its own and runs several times, in turn with the others. The raw figures of each section go
to docs/performance/results.json as soon as they stand; docs/pages/performance/ makes the page of them.

Example: .venv/bin/python benchmarks/speed/speed.py --toy --repeats 1 --results runs/toy.json --only written
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # of the repository: benchmarks/ is in no package

from benchmarks.common.measured import in_process
from benchmarks.machine.limits import limits
from benchmarks.machine.machine import machine
from benchmarks.speed.bench import RESULTS, Bench, keep, runs_folder
from benchmarks.speed.growth import breakdown, scaling
from benchmarks.speed.sections import activations, overlap, projection, written
from benchmarks.speed.sizes import TOY, Sizes
from benchmarks.speed.switching import switching


def the_limits(bench: Bench) -> dict[str, Any]:
    sizes = bench.sizes
    orders = sorted({min(size) for size in sizes.shape.tensors().values() if len(size) == 2})
    return limits(bench.scratch, sizes.matrix, sizes.file_bytes, orders)


def the_accuracy(_: Bench) -> dict[str, Any]:
    return {"rows": in_process("accuracy.accuracy", "accuracy")["result"]}


SECTIONS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "limits": the_limits,
    "accuracy": the_accuracy,
    "switching": switching,
    "projection": projection,
    "overlap": overlap,
    "activations": activations,
    "written": written,
    "breakdown": breakdown,
    "scaling": scaling,
}


def main() -> None:
    """Measure the sections in turn and keep each as soon as it stands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="times that each side is run; the median counts")
    parser.add_argument("--scratch", type=Path, help="folder to make the checkpoints in and keep them")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file that the figures go to")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="measure this section again; repeatable")
    parser.add_argument("--toy", action="store_true", help="toy sizes, to try the scripts")
    chosen = parser.parse_args()
    sizes = TOY if chosen.toy else Sizes()
    with tempfile.TemporaryDirectory(dir=runs_folder()) as temporary:
        scratch = chosen.scratch or Path(temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        bench = Bench(scratch, sizes, chosen.repeats)
        about = {"machine": machine(), "repeats": chosen.repeats, "shape": asdict(sizes.shape)}
        keep(chosen.results, "speed", about, afresh=not chosen.only)
        for name in chosen.only or SECTIONS:
            print(name, flush=True)
            keep(chosen.results, "speed", {name: SECTIONS[name](bench)})


if __name__ == "__main__":
    main()
