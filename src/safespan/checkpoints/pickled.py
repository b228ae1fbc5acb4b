"""A copy in safetensors of a model whose weights are pickled, made only where that is asked for by name."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch

from safespan.checkpoints.writer import write_checkpoint
from safespan.errors import CheckpointError, first_line
from safespan.files.content import is_inner_path

_SINGLE, _INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


def convert_pickled(folder: Path, out: Path) -> None:
    """Write a copy of a model's folder with its weights in safetensors.

    Only tensors are read (`weights_only`): no code in the files runs.

    Args:
        folder: with pytorch_model.bin, or its sharded form.
        out: the folder to make; an existing one is replaced.

    Raises:
        CheckpointError: there are no such weights, a file is broken, or it holds more than tensors.
    """
    files = _files(folder)
    write_checkpoint(out, _tensors(folder, files), folder, {"made_by": "safespan convert", "from": str(folder)})


def _files(folder: Path) -> list[str]:
    if (folder / _SINGLE).is_file():
        return [_SINGLE]
    try:
        shards = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder} has neither {_SINGLE} nor a readable {_INDEX} ({first_line(error)})") from None
    if outside := [shard for shard in shards if not isinstance(shard, str) or not is_inner_path(shard)]:
        raise CheckpointError(f"{folder / _INDEX} names a file outside its folder: {outside[0]!r}")
    return list(dict.fromkeys(shards))


def _tensors(folder: Path, files: list[str]) -> Iterator[tuple[str, torch.Tensor]]:
    for file in files:
        try:
            held = torch.load(folder / file, map_location="cpu", weights_only=True, mmap=True)
            pairs = sorted(held.items())
        except Exception as error:  # broken and hostile files raise errors of every type
            raise CheckpointError(f"{folder / file} cannot be read as weights ({first_line(error)[:200]})") from None
        for name, tensor in pairs:
            if not isinstance(tensor, torch.Tensor):
                raise CheckpointError(f"{folder / file}: {name} is no tensor: only files of weights are converted")
            yield name, tensor.clone()  # tied tensors share their memory, which safetensors refuses
