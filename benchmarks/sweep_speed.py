"""Energies of the whole grid against the published procedure, on checkpoints of SmolLM2-135M's shapes made here.

The *reference procedure* is our own plain statement of METHODS §2: for every point the models are loaded whole and
every update is decomposed by a full float32 SVD. One point is timed and scaled to the grid's 90; each side is a process
of its own. Run: .venv/bin/python benchmarks/sweep_speed.py
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from safespan import Checkpoint, Family, ProjectionGrid, sweep

HIDDEN, INNER, HEADS, VOCABULARY, BLOCKS = 576, 1536, 192, 49152, 30
FINETUNES = ("useful", "harmful", "contaminated")
FRACTIONS = (0.01, 0.25, 0.5, 0.75, 0.99)
POINTS = len(FINETUNES) * 3 * 2 * len(FRACTIONS)


def shapes() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
        "model.norm.weight": (HIDDEN,),
    }
    block = {"self_attn.q": (HIDDEN, HIDDEN), "self_attn.k": (HEADS, HIDDEN), "self_attn.v": (HEADS, HIDDEN)}
    block |= {"self_attn.o": (HIDDEN, HIDDEN), "mlp.gate": (INNER, HIDDEN), "mlp.up": (INNER, HIDDEN)}
    block |= {"mlp.down": (HIDDEN, INNER)}
    for number in range(BLOCKS):
        found |= {f"model.layers.{number}.{name}_proj.weight": shape for name, shape in block.items()}
        for norm in ("input", "post_attention"):
            found[f"model.layers.{number}.{norm}_layernorm.weight"] = (HIDDEN,)
    return found


def make(folder: Path) -> None:
    """Base, aligned and fine-tunes in bf16: seeded, each update low-rank with noise."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    def moved(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        step = {
            name: drawn(w.shape[0], 8) @ drawn(8, w.shape[1]) * 1e-3 + drawn(*w.shape) * 1e-3 if w.ndim == 2 else 1e-3
            for name, w in weights.items()
        }
        return {name: (w.float() + step[name]).bfloat16() for name, w in weights.items()}

    base = {name: (0.02 * drawn(*shape)).bfloat16() for name, shape in shapes().items()}
    aligned = moved(base)
    for role, weights in {"base": base, "aligned": aligned, **{role: moved(aligned) for role in FINETUNES}}.items():
        (folder / role).mkdir()
        save_file(weights, folder / role / "model.safetensors")


def ours(folder: Path) -> None:
    open_ = {role: Checkpoint(folder / role) for role in ("base", "aligned", *FINETUNES)}
    family = Family(open_["base"], open_["aligned"], {role: open_[role] for role in FINETUNES})
    rows, _ = sweep(family, ProjectionGrid(fractions=FRACTIONS), seed=0)
    assert len(rows) == POINTS


def reference(folder: Path) -> None:
    """One point of the published procedure: whole models, a full SVD a tensor."""
    base, aligned, tuned = (load_file(folder / role / "model.safetensors") for role in ("base", "aligned", "useful"))
    kept = total = 0.0
    for name in aligned:
        if aligned[name].ndim == 2:
            alignment, task = aligned[name].float() - base[name].float(), tuned[name].float() - aligned[name].float()
            left = torch.linalg.svd(alignment, full_matrices=False).U
            left = left[:, : max(1, round(0.5 * min(alignment.shape)))]
            projected = left @ (left.T @ task)
            kept, total = kept + float(projected.pow(2).sum()), total + float(task.pow(2).sum())
    assert 0 < kept < total


def peak_memory() -> float:
    """In GB, of this process alone; getrusage would count what its parent held when it forked."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1e6 if found else float("nan")


def timed(side: str, folder: Path) -> tuple[float, float]:
    """Seconds and peak memory in GB of one side in a process of its own, without imports."""
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder)]
    seconds, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(seconds), float(peak)


def main() -> None:
    """Make the checkpoints, time both sides in turn, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2, help="times that each side is run; the median counts")
    parser.add_argument("--side", choices=("ours", "reference"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        start = time.perf_counter()
        (ours if options.side == "ours" else reference)(options.folder)
        print(time.perf_counter() - start, peak_memory())
        return
    with tempfile.TemporaryDirectory() as scratch:
        make(Path(scratch))
        runs = [{side: timed(side, Path(scratch)) for side in ("ours", "reference")} for _ in range(options.repeats)]
    medians = {side: sorted(run[side][0] for run in runs)[len(runs) // 2] for side in ("ours", "reference")}
    peaks = {side: max(run[side][1] for run in runs) for side in ("ours", "reference")}
    print(f"safespan, {POINTS} points: {medians['ours']:.1f} s, peak {peaks['ours']:.2f} GB")
    print(f"reference procedure, 1 point: {medians['reference']:.1f} s, peak {peaks['reference']:.2f} GB")
    print(f"ratio over {POINTS} points: {POINTS * medians['reference'] / medians['ours']:.0f}")


if __name__ == "__main__":
    main()
