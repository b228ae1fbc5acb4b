"""Atomic writing of a checkpoint, tensor by tensor, in shards, and of an adapter."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from safetensors.torch import save_file

from safespan.checkpoints.adapter import AdaptedCheckpoint, Factors
from safespan.errors import CheckpointError
from safespan.files.atomic import atomic_path, write_json
from safespan.models.folders import ADAPTER_CONFIG, ADAPTER_WEIGHTS, INDEX, SINGLE, shown_files, tokenizer_files

_OF_ANOTHER = {"training.json", "safespan.json"}
"""How the model whose files are copied was made."""
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
            if name in _OF_ANOTHER:
                continue
            if isinstance(content, str):
                (folder / name).write_text(content, encoding="utf-8")
            elif content.is_file() and content.suffix not in _WEIGHT_SUFFIXES and not name.endswith(".index.json"):
                _check_inside(content)
                shutil.copy2(content, folder / name)
        _write_weights(folder, tensors, shard_bytes)
        write_json(folder / "safespan.json", provenance)


def write_adapter(
    out: Path,
    like: AdaptedCheckpoint,
    factors: Mapping[str, Factors],
    rank: int,
    provenance: Mapping[str, object],
) -> None:
    """Write a LoRA adapter of the base of another one, with the same modules and tokenizer, and other updates.

    Args:
        out: the folder to make; an existing one is replaced.
        like: the other adapter, with its base.
        factors: tensor -> B [m, r] and A [r, n] in float32, whose product is the update; of every tensor that `like`
            changes.
        rank: of the adapter; factors of a smaller one are padded with zeros.
        provenance: written as `safespan.json`: the origin of these weights.

    Raises:
        CheckpointError: a file to copy is a link out of its folder.
    """
    settings = json.loads((like.adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    own = {"r": rank, "lora_alpha": rank, "rank_pattern": {}, "alpha_pattern": {}}  # scaling 1 of every module
    own |= {"use_rslora": False, "init_lora_weights": True}
    tensors: dict[str, torch.Tensor] = {}
    for name, (left, right) in factors.items():
        a_key, b_key = like.keys_of(name)
        missing = rank - len(right)
        tensors[a_key] = torch.nn.functional.pad(right, (0, 0, 0, missing)).contiguous()
        tensors[b_key] = torch.nn.functional.pad(left, (0, missing)).contiguous()
    with atomic_path(out) as folder:
        folder.mkdir()
        for file in tokenizer_files(like.adapter):
            if file.is_file():
                _check_inside(file)
                shutil.copy2(file, folder / file.name)
        _save(tensors, folder / ADAPTER_WEIGHTS)
        write_json(folder / ADAPTER_CONFIG, settings | own)
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
    os.umask(mask := os.umask(0))
    path.chmod(0o666 & ~mask)  # safetensors lets nobody else read it, unlike the other files
