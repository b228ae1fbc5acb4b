"""Opening of models by name (`settings.model_names`): what is not on disk is downloaded or converted."""

import glob
import logging
import os
from functools import cache, partial
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (  # HTTPError is that of the hub's HTTP client
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from safespan.checkpoints.adapter import AdaptedCheckpoint
from safespan.checkpoints.reader import Checkpoint
from safespan.errors import CheckpointError, first_line
from safespan.models.folders import adapts_parameters, weight_files
from safespan.settings.model_names import hub_repository, split_adapter

_log = logging.getLogger(__name__)

_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt")
"""Weights in safetensors, configuration and tokenizer; no pickled files."""
_IGNORED = ("*/*", "consolidated*")
"""Subfolders hold other formats and training states; `consolidated*` files hold the same weights again."""


def open_checkpoint(name: str | Path) -> Checkpoint:
    """Open a model by name; download it into the hub's cache or convert it if necessary.

    An existing path takes precedence over the other forms.

    Args:
        name: a folder; a hub id such as `org/model`, with `@revision` if wanted; `BASE+ADAPTER`, where the adapter is
            a folder or hub id of a PEFT LoRA adapter; or a .gguf file.

    Raises:
        CheckpointError: there is no such model, it is gated or cannot be reached, or its files are broken.
    """
    text = str(name)
    pair = split_adapter(text)
    checkpoint = _adapted(*map(_folder, pair)) if pair else Checkpoint(_folder(text))
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


def open_local(name: str) -> Checkpoint | None:
    """Open a model without the network and without a conversion; None if its files are not on this disk.

    Raises:
        CheckpointError: its files are broken.
    """
    pair = split_adapter(name)
    folders = [place for part in pair or (name,) if (place := local_place(part)) and place.is_dir()]
    if len(folders) < (2 if pair else 1):
        return None
    if pair and adapts_parameters(folders[1], folders[0]):
        return None  # it must be merged first
    checkpoint = AdaptedCheckpoint(*folders) if pair else Checkpoint(*folders)
    checkpoint.name = name
    return checkpoint


@cache
def _warn_once(remark: str) -> None:
    _log.warning(remark)


def local_place(name: str) -> Path | None:
    """The local path of a model, or of the base of `BASE+ADAPTER`; None if anything must be downloaded."""
    if pair := split_adapter(name):
        base, adapter = map(local_place, pair)
        return base if adapter else None
    if os.path.exists(name):
        return Path(name)
    try:
        return _snapshot(*hub_repository(name), local_files_only=True)
    except (CheckpointError, LocalEntryNotFoundError, HFValidationError):
        return None


def _folder(name: str) -> Path:
    """The folder with the files of one model or adapter."""
    path = Path(name)
    if path.suffix == ".gguf":
        from safespan.models.gguf import convert_gguf

        return convert_gguf(path)
    if os.path.isdir(path):  # unlike Path's, False for a name that no file can have
        return path
    return _download(*hub_repository(name))


def _snapshot(repository: str, revision: str | None, local_files_only: bool) -> Path:
    fetch = partial(snapshot_download, repository, revision=revision, local_files_only=local_files_only)
    folder = Path(fetch(allow_patterns=list(_FILES), ignore_patterns=list(_IGNORED)))
    shards = [str(path.relative_to(folder)) for path in weight_files(folder)]
    if inner := [glob.escape(shard) for shard in shards if "/" in shard and shard.endswith(".safetensors")]:
        fetch(allow_patterns=inner)  # the index names weights in subfolders
    return folder


def _hub_answers(repository: str, revision: str | None) -> bool:
    """Whether the hub answers in time, even with an error; `snapshot_download` has no such timeout."""
    try:
        HfApi().model_info(repository, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (HfHubHTTPError, OSError, ValueError):
        return True
    except HTTPError:
        return False
    return True


def _download(repository: str, revision: str | None) -> Path:
    page = f"{constants.ENDPOINT}/{repository}"
    try:
        return _snapshot(repository, revision, local_files_only=not _hub_answers(repository, revision))
    except GatedRepoError:
        problem = f"{repository} is gated: accept its licence at {page} and set HF_TOKEN to a token of that account"
    except RevisionNotFoundError:
        problem = f"{repository} has no revision {revision}: see {page}/tree/main"
    except RepositoryNotFoundError:
        problem = f"no folder and no hub repository {repository}: check the name, or set HF_TOKEN if it is private"
    except LocalEntryNotFoundError:
        problem = f"{repository} is no folder, it is not in the local cache and the hub cannot be reached: "
        problem += "go online once, or give a folder that exists"
    except (OSError, ValueError, RuntimeError, HTTPError) as error:
        problem = f"{repository} cannot be downloaded ({first_line(error)}): try again, or give a folder"
    raise CheckpointError(problem)
