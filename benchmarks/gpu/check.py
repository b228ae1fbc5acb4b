"""`make gpu-check`: every kind of work on a GPU against the CPU, to stated tolerances, and how long it takes there.

Two families of random weights are made: a small one, on which sweep, overlap, points in place, activations, training
and likelihoods are compared, and a larger one, on which sweep and points are timed. Each device works in a process of
its own. Exit code 1: something is outside its tolerance.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # of the repository: benchmarks/ is in no package

import torch
from benchmarks import ROOT
from benchmarks.common.checkpoints import Shape, family, options
from benchmarks.common.measured import in_process
from benchmarks.machine.machine import machine
from safetensors.torch import load_file

from safespan.files.atomic import write_json
from safespan.organism.tokenizer import build_tokenizer

RESULTS = ROOT / "docs" / "performance" / "gpu.json"
FINETUNES = ("useful", "harmful")
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}


@dataclass(frozen=True)
class Sizes:
    """What is compared and timed."""

    small: Shape
    large: Shape
    prompts: int


FULL = Sizes(Shape(384, 1024, 6, 2, 4, 1024), Shape(1536, 4096, 24, 8, 2, 8192), 64)
TINY = Sizes(Shape(16, 24, 2, 1, 2, 320), Shape(32, 48, 2, 1, 2, 320), 8)

TOLERANCES = {
    "sweep": ("energies and cosines, largest difference", 1e-5),
    "overlap": ("MSO, largest difference", 1e-4),
    "points": ("weights switched in place, share of the norm of what they add", 1e-4),
    "activations": ("share of the norm of a layer's vectors", 1e-4),
    "training": ("loss of the last step, relative", 1e-4),
    "update": ("what the training adds, share of its norm", 5e-2),
    "likelihoods": ("log p of an answer in nats, largest difference", 1e-3),
}
"""What is compared, and the largest distance that passes. The first steps of AdamW divide each gradient by its own
size. A small gradient of another rounding then moves its weight as much as a large gradient. Therefore the tolerance of
the update is wide. That of the loss is not.
"""


def distances(device: dict[str, Any], cpu: dict[str, Any], folders: tuple[Path, Path]) -> dict[str, float]:
    """How far apart two sides are, by the keys of `TOLERANCES`."""
    given, wanted = device["given"], cpu["given"]
    found = {name: _largest(given[name], wanted[name]) for name in ("sweep", "overlap", "likelihoods")}
    [loss], [expected] = given["training"], wanted["training"]
    points = sorted(file.name for file in (folders[1] / "points").iterdir())
    return found | {
        "points": _most(_apart(*(folder / "points" / name for folder in folders)) for name in points),
        "activations": _furthest(*(folder / "activations.safetensors" for folder in folders)),
        "training": abs(loss - expected) / abs(expected),
        "update": _apart(*(folder / "training.safetensors" for folder in folders)),
    }


def _largest(given: list[float], wanted: list[float]) -> float:
    """Largest difference; NaN, which no tolerance lets pass, where only one of two numbers is NaN."""
    pairs = torch.tensor([given, wanted], dtype=torch.float64)
    both = pairs.isnan().all(0)
    return float((pairs[0] - pairs[1])[~both].abs().max())


def _most(values: Iterable[float]) -> float:
    """The largest value; NaN if any is NaN, which `max` would lose."""
    return float(torch.tensor(list(values), dtype=torch.float64).max())


def _apart(given: Path, wanted: Path) -> float:
    """‖x − y‖ / ‖y‖ over all tensors of two files."""
    x, y = load_file(given), load_file(wanted)
    apart = sum(float((x[name].double() - tensor.double()).square().sum()) for name, tensor in y.items())
    return (apart / sum(float(tensor.double().square().sum()) for tensor in y.values())) ** 0.5


def _furthest(given: Path, wanted: Path) -> float:
    """The largest ‖x − y‖ / ‖y‖ of one tensor."""
    x, y = load_file(given), load_file(wanted)
    return _most(float((x[name] - tensor).norm() / tensor.norm()) for name, tensor in y.items())


def checked(sizes: Sizes, on_gpu: bool, scratch: Path) -> dict[str, Any]:
    """Make the families, do the work on both sides, compare."""
    start = time.perf_counter()
    for name, shape in (("small", sizes.small), ("large", sizes.large)):
        family(str(scratch / name), options(shape), FINETUNES)()
        for member in (scratch / name).iterdir():
            build_tokenizer().save_pretrained(member)
    sides = {}
    for side in ("cpu", "device"):
        (scratch / side).mkdir()
        print(f"{side}: sweep, overlap, points, activations, training, likelihoods", flush=True)
        sides[side] = in_process(
            "gpu.sides",
            "every",
            {} if side == "device" and on_gpu else NO_GPU,
            **{name: str(scratch / name) for name in ("small", "large")},
            out=str(scratch / side),
            prompts=sizes.prompts,
        )["result"]
    if on_gpu and sides["device"]["gpu_bytes"] is None:
        raise SystemExit("the process that should work on the GPU saw none: its driver or its memory may be in use")
    found = distances(sides["device"], sides["cpu"], (scratch / "device", scratch / "cpu"))
    rows = [
        {"what": name, "measure": measure, "distance": found[name], "tolerance": most, "within": found[name] <= most}
        for name, (measure, most) in TOLERANCES.items()
    ]
    return {
        "device": sides["device"]["device"],
        "machine": machine(),
        "shapes": {"small": options(sizes.small), "large": options(sizes.large)},
        "rows": rows,
        "seconds": {side: sides[side]["seconds"] for side in sides},
        "gpu_bytes": sides["device"]["gpu_bytes"],
        "wall": time.perf_counter() - start,
    }


def main() -> None:
    """Check, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="what is compared with the CPU")
    parser.add_argument("--tiny", action="store_true", help="sizes that take seconds, to try the script itself")
    parser.add_argument(
        "--results",
        type=Path,
        help="file that the figures go to (default: docs/performance/gpu.json; none with --tiny or --device cpu)",
    )
    chosen = parser.parse_args()
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here: run this where there is one, or give --device cpu to try the script")
    with tempfile.TemporaryDirectory() as scratch:
        results = checked(TINY if chosen.tiny else FULL, chosen.device == "cuda", Path(scratch))
    for row in results["rows"]:
        verdict = "within" if row["within"] else "OUTSIDE"
        print(f"{row['what']:12} {row['distance']:8.1e} {verdict} {row['tolerance']:.0e}  ({row['measure']})")
    for name, seconds in results["seconds"]["device"].items():
        print(f"{name:14} {seconds:7.2f} s, CPU {results['seconds']['cpu'][name]:7.2f} s")
    print(f"{results['device']}, {results['wall']:.0f} s in all")
    kept = chosen.results or (RESULTS if chosen.device == "cuda" and not chosen.tiny else None)
    if kept:
        write_json(kept, results)
    sys.exit(0 if all(row["within"] for row in results["rows"]) else 1)


if __name__ == "__main__":
    main()
