"""The comparisons of `make bench`, each a function of a `Bench` that returns its figures as plain data."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common.checkpoints import options
from benchmarks.common.measured import command, in_process, in_turn, undisturbed
from benchmarks.machine.machine import MERGEKIT
from benchmarks.speed.bench import SAFESPAN, Bench, bare, size_of
from benchmarks.speed.sizes import ENERGIES, FINETUNES, FRACTIONS, SUBSPACES

from safespan.files.atomic import write_json

POINT = {"hypothesis": "alignment", "method": "orthogonal", "fraction": 0.25}
"""The checkpoint that is written."""

TIMED_FRACTION, TIMED_ENERGIES = 0.5, (0.1, 0.9)
"""What the reference procedure is timed on: the mean of the grid's fractions, a small and a large share of energy."""

Sides = dict[str, Callable[[], dict[str, Any]]]


def projection(bench: Bench) -> dict[str, Any]:
    """The grid of 90 points; of the reference procedure one point of each kind of subspace."""
    cache = bench.scratch / "cache"
    sweep = partial(in_process, "speed.ours", "sweep", folder=bench.family, finetunes=FINETUNES, fractions=FRACTIONS)
    filling = undisturbed("filling the cache", lambda: sweep(cache=bench.fresh("cache")))
    sides: Sides = {"cold": sweep, "cached": partial(sweep, cache=cache)}
    for subspace in SUBSPACES:
        sides[subspace] = partial(reference_point, bench, subspace, "parallel", TIMED_FRACTION)
    runs = in_turn(sides, bench.repeats)
    rows = {(r["finetune"], r["subspace"], r["method"], r["fraction"]): r for r in runs["cold"][0]["result"]}
    same = rows[FINETUNES[0], "alignment", "parallel", TIMED_FRACTION]
    theirs = runs["alignment"][0]["result"]
    return {
        "points": len(rows),
        "filling": bare(filling),
        "cache_bytes": size_of(cache),
        "runs": {name: [bare(run) for run in side] for name, side in runs.items()},
        "difference": max(abs(same[name] - value) for name, value in theirs.items()),
    }


def reference_point(bench: Bench, subspace: str, method: str, fraction: float) -> dict[str, Any]:
    out = bench.fresh("reference")
    kind = {"subspace": subspace, "method": method, "fraction": fraction}
    return in_process("speed.reference", "point", folder=bench.family, finetune=FINETUNES[0], out=out, **kind)


def overlap(bench: Bench) -> dict[str, Any]:
    """MSO of two updates at 11 energies; of the reference procedure two of the energies."""
    cache, pair = bench.scratch / "cache", {"folder": bench.family, "x": FINETUNES[0], "y": FINETUNES[1]}
    ours = partial(in_process, "speed.ours", "overlap", energies=ENERGIES, **pair)
    filling = undisturbed("filling the cache", lambda: ours(cache=bench.fresh("cache")))
    sides: Sides = {"cold": ours, "cached": partial(ours, cache=cache)}
    for energy in TIMED_ENERGIES:
        sides[str(energy)] = partial(in_process, "speed.reference", "overlap", energy=energy, **pair)
    runs = in_turn(sides, bench.repeats)
    rows = {(row["group"], row["energy_fraction"]): row["mso"] for row in runs["cold"][0]["result"]}
    apart = [
        abs(rows[name, energy] - mso)
        for energy in TIMED_ENERGIES
        for name, mso in runs[str(energy)][0]["result"].items()
    ]
    return {
        "energies": len(ENERGIES),
        "filling": bare(filling),
        "runs": {name: [bare(run) for run in side] for name, side in runs.items()},
        "difference": max(apart),
    }


def activations(bench: Bench) -> dict[str, Any]:
    """Last-token activations of prompts of uneven length."""
    asked = {"shape": options(bench.sizes.shape), "count": bench.sizes.prompts}
    sides = {side: partial(in_process, "speed.activations", side, **asked) for side in ("ours", "reference")}
    runs = in_turn(sides, bench.repeats)
    ours, reference = (runs[side][0]["result"] for side in sides)
    return {
        "prompts": bench.sizes.prompts,
        "layers": sorted(map(int, ours)),
        "runs": {name: [bare(run) for run in side] for name, side in runs.items()},
        "difference": max(abs(ours[layer] - reference[layer]) for layer in reference),
    }


def written(bench: Bench) -> dict[str, Any]:
    """One checkpoint written, whole commands from the start of the process."""
    folder, cache = bench.family, bench.scratch / "cache"
    asked: list[str | Path] = [SAFESPAN, "project"]
    for role, member in (("base", "base"), ("aligned", "aligned"), ("finetuned", FINETUNES[0])):
        asked += [f"--{role}", folder / member]
    for name, value in POINT.items():
        asked += [f"--{name}", str(value)]
    merge = bench.fresh("merge.json")
    write_json(merge, task_arithmetic(folder))
    home = {"HF_HOME": str(bench.scratch / "hub"), "SAFESPAN_CACHE": str(cache)}

    def ours(state: str) -> dict[str, Any]:
        if state == "cold":
            bench.fresh("cache")
        extra = ["--no-cache"] if state == "no cache" else []
        return command([*asked, "--out", bench.fresh("ours"), *extra], home)

    def mergekit() -> dict[str, Any]:
        flags = ["--no-copy-tokenizer", "--no-write-model-card", "--quiet"]
        return command([MERGEKIT / "mergekit-yaml", merge, bench.fresh("mergekit"), *flags], home)

    sides: Sides = {
        "cold": partial(ours, "cold"),
        "cached": partial(ours, "cached"),
        "no cache": partial(ours, "no cache"),
        "mergekit": mergekit,
        "reference": partial(reference_point, bench, *POINT.values()),
    }
    runs = in_turn(sides, bench.repeats)
    folders = {"aligned": folder / "aligned", "x": bench.scratch / "ours", "y": bench.scratch / "reference"}
    return {
        "runs": {name: [bare(run) for run in side] for name, side in runs.items()},
        "checkpoint_bytes": size_of(folder / "aligned"),
        "difference": in_process("speed.reference", "difference", **folders)["result"],
    }


def task_arithmetic(folder: Path) -> dict[str, Any]:
    """mergekit's own plain method on the same three files: base + (aligned − base) + (fine-tuned − base) / 2."""
    weights = {"aligned": 1.0, FINETUNES[0]: 0.5}
    return {
        "merge_method": "task_arithmetic",
        "base_model": str(folder / "base"),
        "models": [{"model": str(folder / role), "parameters": {"weight": w}} for role, w in weights.items()],
        "dtype": "bfloat16",
    }
