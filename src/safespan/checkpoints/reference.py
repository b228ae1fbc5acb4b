"""Opening of models by name (`settings.model_names`): what is not on disk is downloaded or converted.

The hub's client is imported only if a name is no path.
"""

import atexit
import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from tempfile import gettempdir

from safespan.checkpoints.adapter import AdaptedCheckpoint
from safespan.checkpoints.reader import Checkpoint, Stored
from safespan.errors import CheckpointError
from safespan.files.scratch import scratch_folder
from safespan.models.folders import ADAPTER_CONFIG, SINGLE, adapts_parameters, named_base
from safespan.settings.base import shown
from safespan.settings.model_names import hub_repository, split_adapter

_log = logging.getLogger(__name__)


def open_checkpoint(name: str | Path) -> Checkpoint:
    """Open a model by name; download it into the hub's cache or convert it if necessary.

    An existing path takes precedence over the other forms.

    Args:
        name: a folder; a hub id such as `org/model`, with `@revision` if wanted; `MODEL+ADAPTER`, where the adapter is
            a folder or hub id of a PEFT LoRA adapter; or a .gguf file.

    Raises:
        CheckpointError: there is no such model, it is gated or cannot be reached, or its files are broken.
    """
    text = str(name)
    if pair := split_adapter(text):
        base, adapter = map(_folder, pair)
        checkpoint = _adapted(base, adapter)
        checkpoint.notes += _on_another_base(pair[0], adapter)
    else:
        checkpoint = Checkpoint(_folder(text))
    checkpoint.name = text
    for remark in checkpoint.remarks:
        _warn_once(remark)
    return checkpoint


def _adapted(base: Path, adapter: Path) -> Checkpoint:
    """A base with an adapter; that of fused experts is merged."""
    if not adapts_parameters(adapter, base):
        return AdaptedCheckpoint(base, adapter)
    from safespan.models.merging import merged_folder

    merged = Checkpoint(merged_folder(base, adapter))
    merged.notes.append(f"{base}+{adapter}: an adapter of fused experts, merged in fp32 in {merged.folder}")
    return merged


def _on_another_base(model: str, adapter: Path) -> list[str]:
    """A warning if an adapter says that it was trained on another model than it is put on."""
    trained_on = named_base(adapter)
    if trained_on is None or not _are_two(trained_on, model):
        return []
    return [
        f"{adapter} was trained on {shown(trained_on)}, as its {ADAPTER_CONFIG} says, and is put on {model}: if these "
        "are not the same weights, give MODEL+ADAPTER with the model that it was trained on"
    ]


def _are_two(one: str, other: str) -> bool:
    """Whether two names are of two folders, or of two repositories of the hub; False where that cannot be known."""
    if os.path.isdir(one) and os.path.isdir(other):
        return not os.path.samefile(one, other)
    if os.path.exists(one) or os.path.exists(other):
        return False  # a folder may well be a copy of a repository
    try:
        (first, _), (second, _) = hub_repository(one), hub_repository(other)
    except CheckpointError:
        return False
    return first.lower() != second.lower()


def open_local(name: str) -> Checkpoint | None:
    """Open a model without the network and without a conversion; None if its files are not on this disk.

    Of a GGUF file there are the shapes and the files beside the weights, and no weights.

    Raises:
        CheckpointError: its files are broken.
    """
    pair = split_adapter(name)
    if not pair and (place := local_place(name)) and place.suffix == ".gguf":
        return _described(place, name)
    folders = [place for part in pair or (name,) if (place := local_place(part)) and place.is_dir()]
    if len(folders) < (2 if pair else 1):
        return None
    if pair and adapts_parameters(folders[1], folders[0]):
        return None  # it must be merged first
    checkpoint = AdaptedCheckpoint(*folders) if pair else Checkpoint(*folders)
    checkpoint.name = name
    return checkpoint


class _Described(Checkpoint):
    """A model of which only the names and shapes of its weights are known.

    Args:
        folder: with the files beside the weights.
        shapes: of the weights, which would be stored in float32.
    """

    def __init__(self, folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._known = {name: Stored(shape, "F32") for name, shape in shapes.items()}
        super().__init__(folder)

    def _locate(self) -> dict[str, str]:
        return dict.fromkeys(self._known, SINGLE)

    def _header(self, shard: str) -> dict[str, Stored]:
        return self._known


def _described(path: Path, name: str) -> Checkpoint:
    """The model of a GGUF file, without its weights."""
    state = path.stat()
    checkpoint = _Described(*_description(path.absolute(), state.st_size, state.st_mtime_ns))
    checkpoint.name = name
    return checkpoint


@cache
def _description(path: Path, size: int, changed: int) -> tuple[Path, dict[str, tuple[int, ...]]]:
    """The folder with the files beside the weights of a GGUF file, which is removed when the process ends, and shapes.

    It is made once for a file as it stands: of this size, and changed at this time.
    """
    from safespan.models.gguf import describe_gguf

    until_the_end = ExitStack()
    atexit.register(until_the_end.close)
    folder = until_the_end.enter_context(scratch_folder(Path(gettempdir()), "safespan-gguf"))
    return folder, describe_gguf(path, folder)


@cache
def _warn_once(remark: str) -> None:
    _log.warning(remark)


def local_place(name: str) -> Path | None:
    """The local path of a model, or of the base of `MODEL+ADAPTER`; None if anything must be downloaded."""
    if pair := split_adapter(name):
        base, adapter = map(local_place, pair)
        return base if adapter else None
    if os.path.exists(name):
        return Path(name)
    from safespan.checkpoints.hub import cached

    return cached(name)


def _folder(name: str) -> Path:
    """The folder with the files of one model or adapter."""
    path = Path(name)
    if path.suffix == ".gguf":
        from safespan.models.gguf import convert_gguf

        return convert_gguf(path)
    if os.path.isdir(path):  # unlike Path's, False for a name that no file can have
        return path
    from safespan.checkpoints.hub import download

    return download(*hub_repository(name))
