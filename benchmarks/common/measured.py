"""One side of a comparison in a process of its own: its seconds and its peak memory.

A side is a function that prepares what is not timed and returns the work; `in_process` runs it in a fresh interpreter
and times the work alone. `command` times a whole command, from the start of its process to its end. Peak memory is the
resident set of that process at its highest (VmHWM, Linux), the pages of mapped files among it. With every run goes how
many cores other processes kept busy meanwhile: linear algebra on all cores suffers from them by more than their share.
"""

import importlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
QUIET, TRIES = 0.2, 3
"""Cores that other processes may keep busy during a run that counts, and how often it is tried."""

_TICK = 0.01


def peak_memory(process: int | str = "self") -> int | None:
    """Bytes; of one process alone, where getrusage would count what its parent held when it forked."""
    try:
        match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None


def in_process(module: str, side: str, environment: Mapping[str, str] | None = None, **options: Any) -> dict[str, Any]:
    """Run `side(**options)` of a module of benchmarks/, such as speed.ours, in a fresh interpreter.

    Returns:
        seconds: of the work. wall: of the whole process. libraries, peak: VmHWM after the imports and at the end, in
        bytes. others: cores that other processes kept busy. result: what the work returned.
    """
    start, others = time.perf_counter(), _others()
    done = subprocess.run(
        [sys.executable, __file__, module, side, json.dumps(options, default=str)],
        env={**os.environ, **OFFLINE, **(environment or {})},
        capture_output=True,
        text=True,
    )
    wall = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{module}.{side} failed:\n{done.stderr}")
    return {"wall": wall, "others": max(0.0, _others() - others) / wall, **json.loads(done.stdout.splitlines()[-1])}


def command(arguments: list[str | Path], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run a command. Returns `wall`, `peak` and `others` as `in_process` does."""
    start, others, peak = time.perf_counter(), _others(), None
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            arguments,
            env={**os.environ, **OFFLINE, **(environment or {})},
            stdout=said,
            stderr=said,
        )
        # A process that has ended has no VmHWM any more, so it is read all the while: it only ever grows.
        while process.poll() is None:
            peak = peak_memory(process.pid) or peak
            time.sleep(_TICK)
        wall = time.perf_counter() - start
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{Path(arguments[0]).name} failed:\n{said.read()}")
    return {"wall": wall, "peak": peak, "others": max(0.0, _others() - others) / wall}


def _others() -> float:
    """Processor seconds used so far by all but this process and its ended children, a host's theft among them."""
    try:
        user, nice, system, _idle, _wait, *more = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    except (OSError, ValueError):
        return 0.0
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    used = sum(usage.ru_utime + usage.ru_stime for usage in own)
    return (user + nice + system + sum(more)) / os.sysconf("SC_CLK_TCK") - used


def in_turn(sides: Mapping[str, Callable[[], dict[str, Any]]], repeats: int) -> dict[str, list[dict[str, Any]]]:
    """Run every side in turn, that many times over, so that a slow minute of the machine hits all of them."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for number in range(repeats):
        for name, run in sides.items():
            runs[name].append(undisturbed(f"{name} ({number + 1}/{repeats})", run))
    return runs


def undisturbed(label: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A run that no other processes have disturbed, or the least disturbed of several tries.

    Where threads wait for each other, one busy neighbour can make a run five times as long.
    """
    tried: list[dict[str, Any]] = []
    while len(tried) < TRIES and all(figures["others"] > QUIET for figures in tried):
        figures = run()
        noise = f", others kept {figures['others']:.1f} cores busy" if figures["others"] > QUIET else ""
        print(f"  {label}: {figures.get('seconds', figures['wall']):.2f} s{noise}", flush=True)
        tried.append(figures)
    return min(tried, key=lambda figures: float(figures["others"]))


def _child(module: str, side: str, options: str) -> None:
    prepare = getattr(importlib.import_module(f"benchmarks.{module}"), side)
    libraries = peak_memory()
    work = prepare(**json.loads(options))
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "libraries": libraries, "peak": peak_memory(), "result": result}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    _child(*sys.argv[1:])
