"""A lazy reader of safetensors checkpoints, single-file or sharded."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from safespan.checkpoints.forms import UNKNOWN, form_of, is_constant, is_fused
from safespan.checkpoints.names import common_names, is_head, is_of_vocabulary, is_token_embedding, not_loaded
from safespan.errors import CheckpointError, reason
from safespan.files.content import is_inner_path
from safespan.models.folders import ADAPTER_CONFIG, INDEX, SINGLE, remarks, text_hash

if TYPE_CHECKING:
    from safespan.models.stored_names import Part

_FORMULA = re.compile(r"[=+\-@]|.*[\x00-\x1f]", re.DOTALL)
"""Names of tensors go into tables: no spreadsheet formulas and no control characters."""
_INTEGERS = ("I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "BOOL")
_CODES = ("F8_E4M3", "F8_E5M2", "F8_E8M0", "F4")
_WEIGHT = re.compile(r"weight|_blocks$|_scales$|zeros$")
"""Dtypes of safetensors whose numbers need a scale or a table beside them, and names that weights have."""
_SHOWN = 2
"""Names of tensors in a message."""


class Stored(NamedTuple):
    """A tensor in a file: its shape, and its dtype as safetensors names it."""

    shape: tuple[int, ...]
    dtype: str


class Checkpoint:
    """The weights of one model folder, read one tensor at a time, as matrices of outputs × inputs (`forms.Form`).

    A tied output head that is stored beside its embedding is left out, so that weights count once (METHODS §1). So are
    constants, and weights of more than three dimensions.

    Args:
        folder: a Hugging Face model folder with `model.safetensors` or its sharded form.

    Attributes:
        shapes: name -> shape of every tensor, as it is seen.
        left_out: name -> shape of the tensors that are passed over.
        tied: whether the output head is the embedding.
        dtypes: dtype, as safetensors names it -> number of tensors in the files.

    Raises:
        CheckpointError: the folder, a shard or the index is missing or broken.
    """

    adapter: Path | None = None
    """The folder of a LoRA adapter whose update these weights include; a plain checkpoint has none."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.name = str(folder)
        """Name of the checkpoint in messages and records."""
        self.notes: list[str] = []
        """What is to be known of it beside others."""
        if not self.folder.is_dir():
            raise CheckpointError(f"no checkpoint at {self.folder}: expected a folder with {SINGLE} or {INDEX}")
        self._file_of = self._locate()
        self._seen = {shard: self._state(shard) for shard in sorted(set(self._file_of.values()))}
        found = {name: one for shard in self._seen for name, one in self._header(shard).items()}
        absent = sorted(set(self._file_of) - set(found))
        if absent:
            raise CheckpointError(
                f"{self.folder / INDEX} names tensor {absent[0]}, but {self._file_of[absent[0]]} has none"
            )
        self._name_in_file = common_names(found, str(self.config.get("model_type")))
        self.dtypes = dict(Counter(one.dtype for one in found.values()))
        self._parts = self._of_fused_experts({name: found[there].shape for name, there in self._name_in_file.items()})
        stored = {name: found[there] for name, there in self._name_in_file.items()}
        self._read_forms(stored | {name: stored[name]._replace(shape=part.shape) for name, part in self._parts.items()})
        self.tied = self._drop_tied_head()
        self._rows: int | None = None

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
        """Return one tensor in its stored dtype, in the shape of `shapes`.

        Args:
            name: of the tensor.
            finite: refuse NaN and Inf.

        Raises:
            CheckpointError: the tensor does not exist or holds NaN or Inf, or its file changed since it was opened.
        """
        if name not in self.shapes:
            raise CheckpointError(f"{self.folder} has no tensor {name}")
        self.check_numbers()
        tensor = self._read(name)
        if finite and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            path = self.folder / self._file_of[self._name_in_file[name]]
            raise CheckpointError(f"{path}: tensor {name} holds NaN or Inf; such a checkpoint cannot be analysed")
        seen = self._forms[name].read(tensor)
        return seen[: self._rows] if self._rows and is_of_vocabulary(name) else seen

    @property
    def transposed(self) -> int:
        """Number of matrices and stacks that files store inputs × outputs."""
        return sum(self._forms[name].transposed for name in self.shapes)

    @property
    def tokens(self) -> int | None:
        """Number of rows of the embedding; None if there is none of a usual name."""
        return next((form.stored[0] for name, form in self._forms.items() if is_token_embedding(name)), None)

    def share_rows(self, rows: int) -> None:
        """From now on, see only the first rows of what has a row per token."""
        self._rows = rows
        for name, shape in self.shapes.items():
            if is_of_vocabulary(name):
                self.shapes[name] = (min(rows, shape[0]), *shape[1:])

    def untie(self, head: str) -> None:
        """From now on, have the embedding as a head of that name too."""
        table = next(name for name in self._forms if is_token_embedding(name))
        self._name_in_file[head], self._forms[head] = self._name_in_file[table], self._forms[table]
        self.shapes[head] = self.shapes[table]

    def _read(self, name: str) -> torch.Tensor:
        there = self._name_in_file[name]
        shard = self._file_of[there]
        path = self.folder / shard
        if self._state(shard) != self._seen[shard]:
            raise CheckpointError(f"{path} changed while it was read; wait until it is written, then start again")
        try:
            with safe_open(path, framework="pt") as file:
                tensor: torch.Tensor = file.get_tensor(there)
        except (SafetensorError, OSError, RuntimeError) as error:  # RuntimeError: of torch, which maps the file
            raise CheckpointError(f"cannot read {name} from {path}: {error}; copy the checkpoint again") from None
        return self._parts[name].of(tensor) if name in self._parts else tensor

    def check_numbers(self) -> None:
        """Refuse weights that are stored as codes, whose differences and energies mean nothing.

        Raises:
            CheckpointError: the model is quantised.
        """
        if (kind := self.config.get("model_type")) in UNKNOWN:
            raise CheckpointError(f"{self.folder}: {kind} stores its experts in a form that is not known here")
        if self._quantised:
            raise CheckpointError(
                f"{self.folder} holds quantised weights ({self._quantised}), whose numbers are codes: give the model "
                "that it was made from, or a copy with its weights in bfloat16"
            )

    @property
    def stored_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape in the files of every tensor that is seen, each stored one once."""
        return {name: self._forms[name].stored for name in self.shapes}

    def dtype(self, name: str) -> torch.dtype:
        """The dtype that a tensor is stored in."""
        return self._read(name).dtype

    def as_stored(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor in the shape of `shapes`, in that of the file; rows that are not seen are those of the file."""
        form = self._forms[name]
        if is_of_vocabulary(name) and len(tensor) < form.seen[0]:
            tensor = torch.cat([tensor, form.read(self._read(name))[len(tensor) :].to(tensor)])
        return form.write(tensor)

    def whole(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
        """These tensors as files hold them, and behind them those that are left out, as they are here."""
        for name, tensor in tensors:
            yield name, self.as_stored(name, tensor)
        yield from ((name, self._read(name)) for name in self.left_out)

    @property
    def remarks(self) -> list[str]:
        """What users should know of how this model is read, one line each."""
        return [*remarks(self.folder, self.adapter), *self._of_other_forms(), *self.notes]

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
            return dict.fromkeys(read_header(self.folder / SINGLE), SINGLE)
        if not (self.folder / INDEX).is_file():
            if (self.folder / ADAPTER_CONFIG).is_file():
                base = _read_json(self.folder / ADAPTER_CONFIG).get("base_model_name_or_path") or "MODEL"
                raise CheckpointError(
                    f"{self.folder} holds an adapter and no model: give MODEL+ADAPTER, here {base}+{self.folder}"
                )
            pickled = any(self.folder.glob("pytorch_model*.bin*"))
            what = f"; for its .bin files: safespan convert {self.folder} --out FOLDER" if pickled else ""
            raise CheckpointError(
                f"{self.folder} has neither {SINGLE} nor {INDEX}: only safetensors checkpoints are read{what}"
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

    def _header(self, shard: str) -> dict[str, Stored]:
        path = self.folder / shard
        if not os.path.isfile(path):  # opening a pipe or a device would block
            raise CheckpointError(f"{path} is missing, though {INDEX} names it; copy the checkpoint again")
        header = read_header(path)
        if bad := [name for name in header if _FORMULA.match(name)]:
            raise CheckpointError(f"{path}: {bad[0]!r} is no name of a tensor; copy the checkpoint again")
        return {name: stored for name, stored in header.items() if self._file_of.get(name) == shard}

    def _of_fused_experts(self, shapes: Mapping[str, tuple[int, ...]]) -> "dict[str, Part]":
        """Weights that a file holds as Transformers does in memory, the experts of a block in one tensor, told apart.

        Elsewhere they are stored one by one, and a model is the same in either form.
        """
        if not any(is_fused(str(self.config.get("model_type")), name, shape) for name, shape in shapes.items()):
            return {}
        from safespan.models.stored_names import parts_in_memory  # Transformers takes seconds to import

        parts = parts_in_memory(self.folder, shapes)
        if parts.keys() & shapes.keys():
            return {}
        self._name_in_file |= {name: self._name_in_file[part.within] for name, part in parts.items()}
        for name in {part.within for part in parts.values()}:
            del self._name_in_file[name]
        if parts:
            self.notes.append(f"{self.folder}: experts that are stored in one tensor are seen one by one")
        return parts

    def _read_forms(self, stored: Mapping[str, Stored]) -> None:
        """Set what is seen of the stored tensors."""
        model_type = str(self.config.get("model_type"))
        self._predictors, self._behind = not_loaded(stored, self.config)
        passed = self._predictors | self._behind
        numbers = {name: one.shape for name, one in stored.items() if one.dtype not in _INTEGERS and name not in passed}
        width = self.config.get("hidden_size", (self.config.get("text_config") or {}).get("hidden_size"))
        forms = {name: form_of(model_type, name, shape, width) for name, shape in numbers.items()}
        self._forms = {name: form for name, form in forms.items() if form}
        self.shapes = {name: form.seen for name, form in self._forms.items()}
        self.left_out = {name: one.shape for name, one in stored.items() if name not in self._forms}
        codes = [name for name, one in stored.items() if one.dtype in (*_INTEGERS, *_CODES) and _WEIGHT.search(name)]
        method = self.config.get("quantization_config")
        told = method.get("quant_method", "quantization_config") if isinstance(method, dict) else None
        self._quantised = told or (f"{codes[0]} of dtype {stored[codes[0]].dtype}" if codes else None)

    def _of_other_forms(self) -> Iterator[str]:
        """Remarks on weights that are left out, or are vectors against their shape."""
        shaped = [name for name, shape in self.left_out.items() if len(shape) > 3 and not is_constant(name, shape)]
        as_vectors = [name for name, form in self._forms.items() if len(form.stored) == 3 and len(form.seen) == 1]
        for names, what in (
            (sorted(self._predictors), "of multi-token prediction are left out"),
            (sorted(self._behind), "behind the last block of the configuration are left out, as Transformers does"),
            (shaped, "with more than three dimensions are left out, as if no model changed them"),
            (as_vectors, "with three dimensions that are no stack of experts count as vectors"),
        ):
            if names:
                more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                yield f"{self.folder}: weights {what}: {', '.join(names[:_SHOWN])}{more}"

    def _drop_tied_head(self) -> bool:
        """Leave out an output head that is the embedding, unless the configuration says that it is not tied."""
        heads = [name for name in self.shapes if is_head(name)]
        tables = [name for name in self.shapes if is_token_embedding(name)]
        inner = self.config.get("text_config")
        configs = (self.config, inner if isinstance(inner, dict) else {})
        says = next((one["tie_word_embeddings"] for one in configs if "tie_word_embeddings" in one), None)
        if not heads or not tables:
            return bool(says if says is not None else not heads)
        head, table = max(heads, key=lambda name: len(self.shapes[name])), tables[0]
        # Transformers does not tie a head that is stored with other numbers, whatever the configuration says.
        tied = says is not False and torch.equal(self._read(head), self._read(table))
        if tied:
            del self.shapes[head]
        return tied


def read_header(path: Path) -> dict[str, Stored]:
    """Name -> shape and dtype of every tensor in a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            return {name: Stored(tuple(one.get_shape()), one.get_dtype()) for name, one in slices.items()}
    except (SafetensorError, OSError) as error:
        if not os.access(path, os.R_OK):  # safetensors says that there is no such file
            raise CheckpointError(f"{path}: the permission to read it is missing; change its mode") from None
        raise CheckpointError(f"{path} is not a readable safetensors file ({error}); copy it again") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable JSON ({reason(error)}); copy the checkpoint again") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} should hold a JSON object")
    return value
