"""Names of models: a folder, a repository of the Hugging Face hub, a model with an adapter, or a GGUF file."""

import os
import re
from pathlib import Path

from safespan.errors import CheckpointError

FORMS = (
    "a model folder, a hub id (with @REVISION if wanted), MODEL+ADAPTER (the model that the adapter was trained on, "
    "and the adapter's folder or hub id), or a .gguf file"
)
"""How a model can be named, in the words of help texts and messages."""

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def check_model_name(name: str) -> str:
    """The same name, if it can be that of a model. Whether the hub has it is not asked.

    Raises:
        CheckpointError: it has none of the forms: it is no folder that exists, and no hub id either.
    """
    for part in split_adapter(name) or (name,):
        if Path(part).suffix != ".gguf" and not os.path.isdir(part):  # unlike Path's, False for a name no file can have
            hub_repository(part)
    return name


def split_adapter(name: str) -> tuple[str, str] | None:
    """MODEL and ADAPTER of a name of that form, else None. A model that exists may have a `+` in its name."""
    if os.path.exists(name) or "+" not in name:
        return None
    splits = [(name[: sign.start()], name[sign.end() :]) for sign in re.finditer(r"\+", name)]
    return next((split for split in splits if os.path.exists(split[0])), splits[0])


def hub_repository(name: str) -> tuple[str, str | None]:
    """The repository and the revision, if any, that a hub id names.

    Raises:
        CheckpointError: the name is no hub id, or it is that of a file.
    """
    repository, _, revision = name.partition("@")
    if os.path.isfile(name) or not _HUB_ID.fullmatch(repository):
        raise CheckpointError(f"no checkpoint at {name}: expected {FORMS}")
    return repository, revision or None
