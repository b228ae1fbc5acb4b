"""Conversion of GGUF files into checkpoint folders, dequantised by Transformers."""

import hashlib
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

import torch
from transformers import modeling_gguf_pytorch_utils
from transformers.utils.import_utils import is_gguf_available

from safespan.errors import CheckpointError
from safespan.files.atomic import atomic_path
from safespan.files.content import cache_folder
from safespan.models.folders import view
from safespan.models.loading import as_checkpoint_error, hide_progress_bars, read_whole, read_without_weights
from safespan.progress import track

_TEXT, _ARRAY = 8, 9
_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Kind of value -> size in bytes, for kinds of fixed size."""


def convert_gguf(path: Path, cache: Path | None = None) -> Path:
    """Convert a GGUF file into a folder with safetensors weights and tokenizer, or return the cached one.

    The weights are stored in fp32: a dequantised value is a scale times an integer, which bf16 would round once more.

    Args:
        path: the .gguf file.
        cache: folder of converted files, by the file's SHA-256; `cache_folder()` by default.

    Raises:
        CheckpointError: no such file, not a GGUF file that Transformers reads, or the package gguf is missing.
    """
    tensors = _checked(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = (cache or cache_folder()) / "gguf" / f"{path.stem}-{digest[:16]}"
    if folder.is_dir():
        return folder
    _check_package(path)
    # This reader has a progress bar of its own.
    setattr(modeling_gguf_pytorch_utils, "tqdm", lambda rows, **_: track("tensors", rows, len(rows)))  # noqa: B010
    with as_checkpoint_error(f"{path} cannot be read as a GGUF model"):
        model, tokenizer = read_whole(path.parent, tensors, _weights(path), torch.float32, gguf_file=path.name)
    setattr(model, "hf_quantizer", None)  # noqa: B010 - mypy takes an assignment for that of a submodule
    _call_dequantised(model.config)
    with atomic_path(folder) as part:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
    return folder


def describe_gguf(path: Path, folder: Path) -> dict[str, tuple[int, ...]]:
    """Write the configuration and the tokenizer of a GGUF file into a folder, without its weights, which are not read.

    Returns:
        Name -> shape of each weight of the folder that `convert_gguf` would make.

    Raises:
        CheckpointError: as there, as far as it shows without the weights.
    """
    tensors = _checked(path)
    _check_package(path)
    with as_checkpoint_error(f"{path} cannot be read as a GGUF model"), view(path.parent) as shown:
        config, tokenizer, shapes = read_without_weights(shown, str(path), tensors, _weights(path), gguf_file=path.name)
        _call_dequantised(config)
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return dict(sorted(shapes.items()))


def _checked(path: Path) -> int:
    """Number of tensors in a GGUF file.

    Raises:
        CheckpointError: no such file, or no whole GGUF file.
    """
    if not os.path.isfile(path):
        raise CheckpointError(f"{path}: no such file; a .gguf file was expected here")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise CheckpointError(f"{path} is not a GGUF file: it does not begin with GGUF; copy it again")
        try:
            return _tensors(file, path.stat().st_size)
        except (struct.error, ValueError, KeyError, RecursionError):
            raise CheckpointError(
                f"{path} is not a whole GGUF file: its header is broken, or leads beyond its end; copy it again"
            ) from None


def _check_package(path: Path) -> None:
    if not is_gguf_available():
        raise CheckpointError(f"{path}: reading GGUF files needs the package gguf: pip install 'safespan[gguf]'")
    hide_progress_bars()


def _weights(path: Path) -> int:
    """The largest number of weights that a file can hold: a bit each."""
    return 8 * path.stat().st_size


def _call_dequantised(config: Any) -> None:
    """Weights that are dequantised must not be called quantised by the configuration that is saved."""
    if hasattr(config, "quantization_config"):
        del config.quantization_config


def _tensors(file: BinaryIO, size: int) -> int:
    """Number of tensors in a file, after a check that no length in its header leads beyond the end of the file.

    The package gguf allocates memory for lengths without a check. The file is read from its fifth byte. A broken one
    raises struct.error (it ends too early), ValueError (a length leads beyond its end), KeyError (a kind of value that
    does not exist) or RecursionError (lists in lists, without an end).
    """
    order = "<"

    def number(form: str) -> int:
        value: int = struct.unpack(order + form, file.read(struct.calcsize(form)))[0]
        return value

    def skip(length: int) -> None:
        if length > size - file.tell():
            raise ValueError("beyond the end")
        file.seek(length, os.SEEK_CUR)

    def value(kind: int) -> None:
        if kind == _TEXT:
            skip(number("Q"))
        elif kind == _ARRAY:
            inner, count = number("I"), number("Q")
            if inner in _BYTES:
                skip(count * _BYTES[inner])
                return
            for _ in range(count):
                value(inner)
        else:
            skip(_BYTES[kind])

    if number("I") >= 2**16:  # the version, by which big-endian files are known
        order = ">"
    tensors, entries = number("Q"), number("Q")
    for _ in range(entries):
        value(_TEXT)
        value(number("I"))
    return tensors
