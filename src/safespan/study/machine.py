"""What a result may depend on beside a study: versions, and the machine."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch
from threadpoolctl import threadpool_info

from safespan.settings.instructions import ONE_PATH
from safespan.study.keys import RECORDS

_RECORDED = ("safespan", "torch", "transformers", "trl", "lm-eval", "datasets", "polars", "altair", "numpy")

_SETS = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd", "sve")
"""Instruction sets that libraries choose kernels by."""


def versions() -> dict[str, str]:
    """Versions of what a result may depend on; of a checkout also its commit."""
    known = {"python": platform.python_version(), **{package: version(package) for package in _RECORDED}}
    return {**known, "safespan records": str(RECORDS), **({"commit": commit} if (commit := _commit()) else {})}


def hardware() -> dict[str, str | int | float | None]:
    """Hardware that a result may depend on."""
    name, sets = _processor()
    chosen = [f"{name}={value}" for name in ONE_PATH if (value := os.environ.get(name))]
    return {
        "cpu": name,
        "instruction_sets": sets,
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "instruction_path": " ".join(chosen) or "the processor's own",
        "blas": ", ".join(sorted({_library(found) for found in threadpool_info() if found["user_api"] == "blas"})),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> tuple[str, str]:
    """Name and instruction sets, as Linux tells them."""
    file = Path("/proc/cpuinfo")
    fields: dict[str, str] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        field, _, value = line.partition(":")
        fields.setdefault(field.strip(), value.strip())
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return fields.get("model name") or platform.machine(), " ".join(name for name in _SETS if name in flags)


def _library(found: dict[str, str]) -> str:
    """OpenBLAS also says whose kernels it has chosen."""
    return " ".join(filter(None, (found["internal_api"], found.get("version"), found.get("architecture"))))


def _commit() -> str | None:
    """Of the checkout that this package is in, if it is in one, as git keeps it in files."""
    folder = Path(__file__).parents[3] / ".git"
    try:
        if folder.is_file():  # of a second work tree
            folder = Path(folder.read_text(encoding="utf-8").partition(":")[2].strip())
        head = (folder / "HEAD").read_text(encoding="utf-8").strip()
        name = head.removeprefix("ref: ")
        if name == head:
            return head
        shared = folder / "commondir"
        common = folder / shared.read_text(encoding="utf-8").strip() if shared.exists() else folder
        if (common / name).exists():
            return (common / name).read_text(encoding="utf-8").strip()
        packed = (common / "packed-refs").read_text(encoding="utf-8").splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)
    except OSError:
        return None
