"""What safespan finds where it runs: packages, hardware, folders, network, keys; and what to do where it lacks one."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from safespan.errors import DataError, first_line
from safespan.files.content import cache_folder
from safespan.progress import track
from safespan.settings.redaction import redacted

State = Literal["ok", "optional", "fault"]

_SHOWN = ("torch", "transformers", "lm-eval", "peft", "trl", "datasets", "accelerate")
"""Required packages that are imported, as a package that is there may still not load."""

_MODULES = {"lm-eval": "lm_eval", "inspect-ai": "inspect_ai"}
"""Package -> module, where their names differ, of those that are looked for."""

_EXTRAS = {
    "gguf": "models in .gguf files",
    "ray": "Ray clusters",
    "judge": "language models as judges",
    "vllm": "the engine vllm",
}
"""Extra -> what it is for; on some systems an extra has no package."""

_SECONDS = 3.0
"""Longest wait for the hub."""

_LITTLE = 5e9
"""Bytes of free disk space below which a study may fill the disk."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        part: versions, hardware, folders, network, keys or extras.
        name: of the thing.
        found: what there is.
        state: ok; optional: absent, and safespan can run without; fault: safespan cannot run.
        advice: what to do; empty if all is well.
    """

    part: str
    name: str
    found: str
    state: State = "ok"
    advice: str = ""


def examine() -> list[Check]:
    """Look at everything. A part that cannot be looked at, as a package is missing, is said and no reason to stop."""
    parts: dict[str, Callable[[], list[Check]]] = {
        "versions": _versions,
        "hardware": _hardware,
        "folders": _folders,
        "network": _network,
        "keys": _keys,
        "extras": _extras,
    }
    checks: list[Check] = []
    for name, look in track("checks", parts.items(), len(parts)):
        try:
            checks += look()
        except ImportError as error:
            checks.append(
                Check(name, name, f"not looked at: {first_line(error)}", "optional", "mend the packages first")
            )
    return checks


def _versions() -> list[Check]:
    try:
        ours = distribution("safespan")
    except PackageNotFoundError:
        return [Check("versions", "safespan", "not installed", "fault", "pip install safespan")]
    python = Check("versions", "python", ".".join(map(str, sys.version_info[:3])))
    wanted = ours.metadata["Requires-Python"] or ""
    if python.found not in SpecifierSet(wanted):
        python = Check("versions", "python", python.found, "fault", f"take Python {wanted}")
    required = [need for need in map(Requirement, ours.requires or []) if _applies(need, "")]
    checks = [python, Check("versions", "safespan", ours.version)]
    checks += [check for need in required if (check := _package(need)).state != "ok" or need.name in _SHOWN]
    return checks


def _applies(need: Requirement, extra: str) -> bool:
    """Whether a requirement is of an extra; of none: whether it is always required here."""
    alone = need.marker is None or need.marker.evaluate({"extra": ""})
    return alone if not extra else not alone and bool(need.marker and need.marker.evaluate({"extra": extra}))


def _package(need: Requirement) -> Check:
    """A required package: whether it is there, new enough and, if it is one of those that matter most, loads."""
    told = f"pip install '{need.name}{need.specifier}'"
    try:
        found = version(need.name)
    except PackageNotFoundError:
        return Check("versions", need.name, "not installed", "fault", told)
    if not need.specifier.contains(found, prereleases=True):
        return Check("versions", need.name, f"{found}, needed {need.specifier}", "fault", told)
    if need.name in _SHOWN:
        try:
            import_module(_MODULES.get(need.name, need.name))
        except Exception as error:  # a package may fail in any way
            why = f"{found} cannot be imported: {redacted(first_line(error))}"
            return Check("versions", need.name, why, "fault", f"install it anew: {told} --force-reinstall")
    return Check("versions", need.name, found)


def _hardware() -> list[Check]:
    import psutil
    import torch

    from safespan.study.machine import hardware

    memory = psutil.virtual_memory()
    checks = [
        Check("hardware", "cpu", f"{hardware()['cpu']}, {os.cpu_count()} cores"),
        Check("hardware", "memory", f"{_gigabytes(memory.total)}, {_gigabytes(memory.available)} available"),
    ]
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(number)
        found = f"{torch.cuda.get_device_name(number)}, {_gigabytes(total)}, {_gigabytes(free)} free"
        checks.append(Check("hardware", f"cuda:{number}", found))
    if torch.backends.mps.is_available():
        checks.append(Check("hardware", "mps", f"{platform.machine()}, shares the main memory"))
    if len(checks) == 2:
        advice = "models run on the CPU; for CUDA install a torch that is built for it"
        checks.append(Check("hardware", "accelerator", "none", "optional", advice))
    checks.append(_calibration())
    return checks


def _calibration() -> Check:
    """Whether the times of a dry run are known here."""
    from safespan.study.costs.rates import known_rates

    try:
        rates = known_rates(1)
    except DataError as error:
        return Check("hardware", "calibration", first_line(error), "optional", "safespan calibrate")
    if rates is None:
        advice = "for the times of --dry-run: safespan calibrate, about a minute"
        return Check("hardware", "calibration", "none", "optional", advice)
    return Check("hardware", "calibration", f"of {rates.made}, {rates.threads} threads")


def _folders() -> list[Check]:
    from huggingface_hub.constants import HF_HUB_CACHE

    cache, temporary, hub = cache_folder(), Path(tempfile.gettempdir()), Path(HF_HUB_CACHE)
    kept = sum(file.stat().st_size for file in cache.rglob("*.safetensors")) if cache.is_dir() else 0
    size = os.environ.get("SAFESPAN_CACHE_GB", "20")
    limit = Check("folders", "cache size", f"{_gigabytes(kept)} of {size} GB")
    if not size.replace(".", "", 1).isdigit():
        advice = "set SAFESPAN_CACHE_GB to a number of gigabytes, such as 20"
        limit = Check("folders", "cache size", f"SAFESPAN_CACHE_GB={size!r}", "fault", advice)
    return [
        _folder("cache", cache, "optional", "set SAFESPAN_CACHE to another folder, else nothing is kept"),
        limit,
        _folder("hub cache", hub, "optional", "set HF_HOME to another folder, else nothing can be downloaded"),
        _folder("temporary files", temporary, "fault", "set TMPDIR to a folder that can be written to"),
        _folder("working folder", Path.cwd(), "optional", "give --out in another folder"),
    ]


def _folder(name: str, folder: Path, unwritable: State, advice: str) -> Check:
    """Whether a folder, or the nearest one above it that is there, can be written to and has space."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    found = f"{folder}, {_gigabytes(free)} free"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Check("folders", name, f"{folder}, not writable", unwritable, advice)
    if free < _LITTLE:
        return Check("folders", name, found, "optional", "make space: a run holds every model that it trains")
    return Check("folders", name, found)


def _network() -> list[Check]:
    from huggingface_hub import constants, get_session

    place = redacted(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE:
        advice = "unset HF_HUB_OFFLINE to download models and data sets"
        return [Check("network", "hub", "not asked: HF_HUB_OFFLINE is set", "optional", advice)]
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS)
    except Exception as error:  # of whichever client the hub's library has
        why = f"{place} does not answer: {redacted(first_line(error))}"
        advice = "what is on this disk can be used; check network and proxy, or set HF_ENDPOINT to a mirror"
        return [Check("network", "hub", why, "optional", advice)]
    return [Check("network", "hub", f"{place} answers")]


def _keys() -> list[Check]:
    """Whether keys are there. Nothing of them is told."""
    from huggingface_hub import get_token

    wanted = {
        "HF_TOKEN": "needed for gated models and data sets: hf auth login, or set HF_TOKEN",
        "OPENAI_API_KEY": "needed for judges of that provider",
    }
    others = sorted(name for name in os.environ if name.endswith("_API_KEY") and name not in wanted)
    checks = []
    for name in (*wanted, *others):
        there = bool(os.environ.get(name, "").strip()) or (name == "HF_TOKEN" and get_token() is not None)
        state: State = "ok" if there else "optional"
        checks.append(
            Check("keys", name, "there" if there else "not there", state, "" if there else wanted.get(name, ""))
        )
    return checks


def _extras() -> list[Check]:
    needs = [Requirement(text) for text in distribution("safespan").requires or []]
    checks = []
    for extra, purpose in _EXTRAS.items():
        names = [need.name for need in needs if _applies(need, extra)]
        lacking = [name for name in names or [extra] if find_spec(_MODULES.get(name, name)) is None]
        package = f"'safespan[{extra}]'" if names else extra
        advice = f"for {purpose}: pip install {package}"
        found = f"not installed: {', '.join(lacking)}" if lacking else "installed"
        checks.append(Check("extras", extra, found, "optional" if lacking else "ok", advice if lacking else ""))
    return checks


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
