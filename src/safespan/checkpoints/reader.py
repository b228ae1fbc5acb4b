"""A lazy reader of safetensors checkpoints, single-file or sharded."""

import hashlib
import json
import os
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from safespan.errors import CheckpointError
from safespan.files.content import is_inner_path
from safespan.models.folders import ADAPTER_CONFIG, INDEX, SINGLE, remarks, text_hash

_FORMULA = re.compile(r"[=+\-@]|.*[\x00-\x1f]", re.DOTALL)
"""Names of tensors go into tables: no spreadsheet formulas and no control characters."""
TIED = ("lm_head.weight", "embed_tokens.weight")
"""Suffixes of the names of an output head, and of the embedding that it may be tied to."""


class Checkpoint:
    """The weights of one model folder, read one tensor at a time.

    A tied output head that is stored beside its embedding is left out, so that weights count once (METHODS §1).

    Args:
        folder: a Hugging Face model folder with `model.safetensors` or its sharded form.

    Raises:
        CheckpointError: the folder, a shard or the index is missing or broken.
    """

    adapter: Path | None = None
    """The folder of a LoRA adapter whose update these weights include; a plain checkpoint has none."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.name = str(folder)
        """Name of the checkpoint in messages and records."""
        if not self.folder.is_dir():
            raise CheckpointError(f"no checkpoint at {self.folder}: expected a folder with {SINGLE} or {INDEX}")
        self._file_of = self._locate()
        self._seen = {shard: self._state(shard) for shard in sorted(set(self._file_of.values()))}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for shard in self._seen:
            self._read_header(shard)
        absent = sorted(set(self._file_of) - set(self.shapes))
        if absent:
            raise CheckpointError(
                f"{self.folder / INDEX} names tensor {absent[0]}, but {self._file_of[absent[0]]} has none"
            )
        self._drop_tied_head()

    @property
    def names(self) -> list[str]:
        """Names of all tensors, sorted."""
        return sorted(self.shapes)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's config.json, empty when there is none."""
        path = self.folder / "config.json"
        return _read_json(path) if path.is_file() else {}

    def load(self, name: str, finite: bool = True) -> torch.Tensor:
        """Return one tensor in its stored dtype.

        Args:
            name: of the tensor.
            finite: refuse NaN and Inf.

        Raises:
            CheckpointError: the tensor does not exist or holds NaN or Inf, or its file changed since it was opened.
        """
        if name not in self.shapes:
            raise CheckpointError(f"{self.folder} has no tensor {name}")
        shard = self._file_of[name]
        path = self.folder / shard
        if self._state(shard) != self._seen[shard]:
            raise CheckpointError(f"{path} changed while it was read; wait until it is written, then start again")
        try:
            with safe_open(path, framework="pt") as file:
                tensor: torch.Tensor = file.get_tensor(name)
        except (SafetensorError, OSError, RuntimeError) as error:  # RuntimeError: of torch, which maps the file
            raise CheckpointError(f"cannot read {name} from {path}: {error}; copy the checkpoint again") from None
        if finite and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: tensor {name} holds NaN or Inf; such a checkpoint cannot be analysed")
        return tensor

    @property
    def remarks(self) -> list[str]:
        """What users should know of how this model is read, one line each."""
        return remarks(self.folder, self.adapter)

    def sha256(self) -> str:
        """Hash of the weight files' bytes and names."""
        digest = hashlib.sha256()
        for shard in self._seen:
            digest.update(shard.encode())
            with (self.folder / shard).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        if (self.folder / ADAPTER_CONFIG).is_file():
            # Once such an adapter was applied where models answer: no answer of that time is one of these weights.
            digest.update(b"without the adapter in its folder")
        return digest.hexdigest()

    def text_hash(self) -> str:
        """Hash of the files beside the weights that say how a text is read: configuration, tokenizer, chat template."""
        return text_hash(self.folder, self.adapter)

    def _locate(self) -> dict[str, str]:
        if (self.folder / SINGLE).is_file():
            return dict.fromkeys(read_shapes(self.folder / SINGLE), SINGLE)
        if not (self.folder / INDEX).is_file():
            if (self.folder / ADAPTER_CONFIG).is_file():
                base = _read_json(self.folder / ADAPTER_CONFIG).get("base_model_name_or_path") or "BASE"
                raise CheckpointError(
                    f"{self.folder} holds an adapter and no model: give BASE+ADAPTER, here {base}+{self.folder}"
                )
            raise CheckpointError(
                f"{self.folder} has neither {SINGLE} nor {INDEX}: only safetensors checkpoints are read"
            )
        weight_map = _read_json(self.folder / INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{self.folder / INDEX} has no weight_map; copy the checkpoint again")
        for shard in weight_map.values():
            if not isinstance(shard, str) or not is_inner_path(shard):
                raise CheckpointError(f"{self.folder / INDEX} names a file outside its folder: {shard!r}")
        return weight_map

    def _state(self, shard: str) -> tuple[int, ...] | None:
        """Inode, size and time of a file, which change when it is rewritten; None if it does not exist."""
        try:
            status = (self.folder / shard).stat()
        except (OSError, ValueError):  # ValueError: an invalid file name
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _read_header(self, shard: str) -> None:
        path = self.folder / shard
        if not os.path.isfile(path):  # opening a pipe or a device would block
            raise CheckpointError(f"{path} is missing, though {INDEX} names it; copy the checkpoint again")
        for name, shape in read_shapes(path).items():
            if _FORMULA.match(name):
                raise CheckpointError(f"{path}: {name!r} is no name of a tensor; copy the checkpoint again")
            if self._file_of.get(name) == shard:
                self.shapes[name] = shape

    def _drop_tied_head(self) -> None:
        head = [name for name in self.shapes if name.endswith(TIED[0])]
        embedding = [name for name in self.shapes if name.endswith(TIED[1])]
        if self.config.get("tie_word_embeddings") and head and embedding:
            del self.shapes[head[0]]


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor in a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file ({error}); copy it again") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable JSON ({error}); copy the checkpoint again") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} should hold a JSON object")
    return value
