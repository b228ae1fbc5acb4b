"""A cache of decompositions on disk, keyed by the content of the matrix."""

import hashlib
import logging
import os
from contextlib import suppress
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from safespan.errors import ConfigError, DiskFullError
from safespan.files.atomic import atomic_path
from safespan.files.content import cache_folder
from safespan.subspaces.spectrum import Factor, Spectrum, factorize, spectrum_of

FOLDER, GIGABYTES = "SAFESPAN_CACHE", "SAFESPAN_CACHE_GB"
"""Environment variables: the cache's folder and its size."""

_FORMAT = "safespan factor 2"
"""Part of every key; it changes with the algorithm of the decomposition."""

_SMALLEST = 128
"""Matrices with fewer rows or columns are not cached: decomposing them is faster than reading a file."""

_log = logging.getLogger(__name__)


class SpectrumCache:
    """Decomposes each matrix once.

    Several processes may share one folder: writes are atomic. If the folder cannot be read or written, a warning is
    logged once and the cache is disabled.

    Args:
        folder: of the files; by default SAFESPAN_CACHE, or `safespan` in the user's cache folder.
        gigabytes: size limit, beyond which the least recently used files are removed; by default SAFESPAN_CACHE_GB, or
            20.

    Raises:
        ConfigError: SAFESPAN_CACHE_GB is not a number.
    """

    def __init__(self, folder: Path | None = None, gigabytes: float | None = None) -> None:
        self._folder = folder or cache_folder()
        self._limit = (_gigabytes() if gigabytes is None else gigabytes) * 1e9
        self._usable = True
        self._lock = Lock()

    def __reduce__(self) -> tuple[type["SpectrumCache"], tuple[Path, float]]:
        """Unpickle as another cache over the same folder."""
        return SpectrumCache, (self._folder, self._limit / 1e9)

    def decompose(self, matrix: torch.Tensor, fraction: float = 1.0) -> Spectrum:
        """The same as `decompose`, bit for bit."""
        if not self._usable or min(matrix.shape) < _SMALLEST:
            return spectrum_of(matrix, factorize(matrix), fraction)
        key = _sha256(f"{_FORMAT} {matrix.dtype} {tuple(matrix.shape)}", matrix).hex()
        path = self._folder / f"{key}.safetensors"
        factor = self._read(path, matrix)
        if factor is None:
            factor = factorize(matrix)
            self._write(path, factor)
        return spectrum_of(matrix, factor, fraction)

    def _read(self, path: Path, matrix: torch.Tensor) -> Factor | None:
        try:
            # Not mapped into memory: other processes may remove or rewrite the file.
            content = path.read_bytes()
            os.utime(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._give_up(f"cannot be read ({error})")
            return None
        try:
            kept = load(content)
            factor = Factor(kept["values"], kept["weights"])
            intact = bytes(kept["sha256"].tolist()) == _sha256("", factor.values, factor.weights)
        except (SafetensorError, KeyError):
            intact = False
        if not intact or factor.weights.shape != (min(matrix.shape), len(factor.values)):
            _log.warning(f"{path} is broken: its matrix is decomposed again")
            return None
        return Factor(factor.values.to(matrix.device), factor.weights.to(matrix.device))

    def _write(self, path: Path, factor: Factor) -> None:
        kept = {"values": factor.values.cpu().contiguous(), "weights": factor.weights.cpu().contiguous()}
        kept["sha256"] = torch.tensor(list(_sha256("", *kept.values())), dtype=torch.uint8)
        size = sum(tensor.nbytes for tensor in kept.values())
        if not self._usable or size > self._limit:
            return
        try:
            with atomic_path(path) as part:
                save_file(kept, part)
            self._make_room()
        except (OSError, SafetensorError, DiskFullError) as error:
            self._give_up(f"cannot be written ({error})")

    def _make_room(self) -> None:
        files = []
        for path in self._folder.glob("*.safetensors"):
            with suppress(FileNotFoundError):  # another process may remove files too
                files.append((path.stat(), path))
        excess = sum(stat.st_size for stat, _ in files) - self._limit
        for stat, path in sorted(files, key=lambda file: file[0].st_mtime):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= stat.st_size

    def _give_up(self, reason: str) -> None:
        with self._lock:
            if self._usable:
                _log.warning(f"the cache {self._folder} {reason}: going on without it; set {FOLDER} to another folder")
            self._usable = False


def _gigabytes() -> float:
    text = os.environ.get(GIGABYTES, "20")
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{GIGABYTES}={text!r}: expected a number of gigabytes, such as 20") from None


def _sha256(start: str, *tensors: torch.Tensor) -> bytes:
    digest = hashlib.sha256(start.encode())
    for tensor in tensors:
        digest.update(np.ascontiguousarray(tensor.cpu().numpy()).data)
    return digest.digest()
