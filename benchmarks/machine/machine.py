"""What a measurement was made on: processor, memory, versions, settings of the linear algebra libraries."""

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import ROOT

MERGEKIT = ROOT / ".venv-mergekit" / "bin"
_STEERING = re.compile(r"(OPENBLAS|OMP|GOMP|KMP|MKL|ATEN|NVPL_BLAS)_\w+")


def machine() -> dict[str, Any]:
    """Plain data with nothing that names the machine, its user or a path on it."""
    packages = {name: version(name) for name in ("torch", "numpy", "scipy", "safespan")}
    return {
        "processor": _line("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": os.cpu_count(),
        "memory_bytes": int(_line("/proc/meminfo", "MemTotal").removesuffix(" kB") or 0) * 1024,
        "system": platform.system(),
        "versions": {"python": platform.python_version(), **packages, "mergekit": _mergekit()},
        "settings": {
            name: value for name, value in sorted(os.environ.items()) if _STEERING.fullmatch(name) and "/" not in value
        },
        "date": datetime.now(UTC).date().isoformat(),
    }


def _line(path: str, field: str) -> str:
    """The first value of a field of a `field : value` file, empty where there is none."""
    try:
        match = re.search(rf"^{field}\s*:\s*(.+)$", Path(path).read_text(), re.MULTILINE)
    except OSError:
        return ""
    return match[1] if match else ""


def _mergekit() -> str | None:
    """The version in its own environment."""
    asked = "from importlib.metadata import version; print(version('mergekit'))"
    if not (MERGEKIT / "python").exists():
        return None
    return subprocess.run([MERGEKIT / "python", "-c", asked], check=True, capture_output=True, text=True).stdout.strip()
