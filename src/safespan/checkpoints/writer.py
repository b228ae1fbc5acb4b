"""Atomic writing of a checkpoint, tensor by tensor, in shards."""

import shutil
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from safetensors.torch import save_file

from safespan.errors import CheckpointError
from safespan.files.atomic import atomic_path, write_json
from safespan.models.folders import INDEX, SINGLE, shown_files

_WEIGHT_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"}


def write_checkpoint(
    out: Path,
    tensors: Iterable[tuple[str, torch.Tensor]],
    like: Path,
    provenance: Mapping[str, object],
    shard_bytes: int = 4 * 2**30,
    temporary: bool = False,
    adapter: Path | None = None,
) -> None:
    """Write a folder that `transformers` loads: weights, and config and tokenizer copied from `like`.

    Args:
        out: the folder to make; an existing one is replaced.
        tensors: names and tensors; at most `shard_bytes` of them are held in memory at once.
        like: the model folder whose config, tokenizer and other small files are copied.
        provenance: written as `safespan.json`: the origin of these weights.
        shard_bytes: size at which a new shard begins.
        temporary: the folder is new and need not last: its writing is neither atomic nor flushed to the disk.
        adapter: folder of an adapter, whose tokenizer is copied in place of that of `like` if it has one.

    Raises:
        CheckpointError: a file to copy is a link out of its folder.
    """
    with nullcontext(out) if temporary else atomic_path(out) as folder:
        folder.mkdir()
        for name, content in shown_files(like, adapter).items():
            if isinstance(content, str):
                (folder / name).write_text(content, encoding="utf-8")
            elif content.is_file() and content.suffix not in _WEIGHT_SUFFIXES and not name.endswith(".index.json"):
                _check_inside(content)
                shutil.copy2(content, folder / name)
        _write_weights(folder, tensors, shard_bytes)
        write_json(folder / "safespan.json", provenance)


def _write_weights(folder: Path, tensors: Iterable[tuple[str, torch.Tensor]], shard_bytes: int) -> None:
    weight_map: dict[str, int] = {}
    shard: dict[str, torch.Tensor] = {}
    shard_size = count = total = 0
    for name, tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if shard and shard_size + size > shard_bytes:
            _save(shard, folder / _shard_name(count))
            shard, shard_size, count = {}, 0, count + 1
        shard[name] = tensor.contiguous()
        weight_map[name] = count
        shard_size, total = shard_size + size, total + size
    _save(shard, folder / _shard_name(count))
    if count == 0:
        (folder / _shard_name(0)).rename(folder / SINGLE)
    else:
        names = {name: _shard_name(number) for name, number in weight_map.items()}
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": names})


def _check_inside(path: Path) -> None:
    """Refuse a link out of the folder; links of the hub's cache to its blobs are allowed."""
    file, folder = path.resolve(), path.parent.resolve()
    in_cache = folder.parent.name == "snapshots" and file.parent == folder.parent.parent / "blobs"
    if not in_cache and not file.is_relative_to(folder):
        raise CheckpointError(f"{path} is a link out of its folder, to {file}: put a copy of the file in its place")


def _shard_name(number: int) -> str:
    return f"model-{number + 1:05d}.safetensors"


def _save(shard: dict[str, torch.Tensor], path: Path) -> None:
    save_file(shard, path, metadata={"format": "pt"})
