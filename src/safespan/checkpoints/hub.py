"""Models of the hub: downloads into its cache, and what is there already."""

import glob
from functools import partial
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

from safespan.errors import CheckpointError, first_line
from safespan.models.folders import weight_files
from safespan.settings.model_names import hub_repository

_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt")
"""Weights in safetensors, configuration and tokenizer; no pickled files."""
_IGNORED = ("*/*", "consolidated*")
"""Subfolders hold other formats and training states; `consolidated*` files hold the same weights again."""


def cached(name: str) -> Path | None:
    """The folder of a model that is in the cache; None if it is not, or if the name is no hub id."""
    try:
        return _snapshot(*hub_repository(name), local_files_only=True)
    except (CheckpointError, LocalEntryNotFoundError, HFValidationError):
        return None


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


def download(repository: str, revision: str | None) -> Path:
    """The folder of a model, downloaded if necessary.

    Raises:
        CheckpointError: there is no such model, it is gated, or it cannot be reached.
    """
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
