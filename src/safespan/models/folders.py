"""The files of a model's folder that count, and the folder as Transformers is shown it."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from safetensors import SafetensorError, safe_open

from safespan.files.content import content_hash, is_inner_path
from safespan.files.scratch import scratch_folder
from safespan.linalg.stacks import FUSED_EXPERTS

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_OF_ADAPTERS = "adapter_"
TRAINING = "training.json"
"""The record of a training by safespan, in the folder that it wrote."""

_TEMPLATE, _TOKENIZER_CONFIG = "chat_template.jinja", "tokenizer_config.json"
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_TOKENIZER = (
    *_VOCABULARIES,
    _TOKENIZER_CONFIG,
    _TEMPLATE,
    "chat_template.json",
    "additional_chat_templates",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
)
_READ_BY = (*_TOKENIZER, "config.json", "generation_config.json")
_OF_A_CALL = ("version", "truncation", "padding")
"""Fields of tokenizer.json that say how it was written, or called last."""


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights of a model folder; those that an index names may lie in subfolders."""
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    shards = _read_object(folder / INDEX).get("weight_map")
    if not isinstance(shards, dict):
        return sorted(folder.glob("*.safetensors"))
    return [folder / shard for shard in dict.fromkeys(map(str, shards.values())) if is_inner_path(shard)]


def shown_files(folder: Path, adapter: Path | None = None) -> dict[str, Path | str]:
    """Name -> file, or text of a file, of what stands for a model, without the weights of its adapter.

    Files of an adapter in the model's own folder are left out: Transformers would add its update to weights that were
    saved with it. The tokenizer is the adapter's if its folder holds one; so is the chat template.

    Args:
        folder: the model's, or that of the base of an adapter.
        adapter: the adapter's folder.
    """
    shown: dict[str, Path | str] = {
        path.name: path for path in sorted(folder.iterdir()) if not path.name.startswith(_OF_ADAPTERS)
    }
    if adapter is None:
        return shown
    own, template = own_tokenizer(adapter), _template(adapter)
    if own:
        shown = {name: path for name, path in shown.items() if name not in _TOKENIZER}
        shown |= {path.name: path for path in own}
        template = _template(folder) if template is None else None  # its own comes with its files
    if template is not None:
        shown[_TEMPLATE] = template
    return shown


def text_hash(folder: Path, adapter: Path | None = None) -> str:
    """SHA-256 of the files of `shown_files` that say how a model reads a text: configuration, tokenizer, template."""
    read = {name: content for name, content in shown_files(folder, adapter).items() if name in _READ_BY}
    hashes = {name: content_hash(one) if isinstance(one, Path) else one for name, one in sorted(read.items())}
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


@contextmanager
def view(folder: Path, adapter: Path | None = None) -> Iterator[Path]:
    """A folder with the files of `shown_files`: `folder` itself if they are all that it holds, else one of links."""
    if set(shown_files(folder, adapter).values()) == set(folder.iterdir()):
        yield folder
        return
    with scratch_folder(Path(gettempdir()), "safespan-view") as scratch:
        yield linked(folder, scratch / folder.name, adapter)


def linked(folder: Path, place: Path, adapter: Path | None = None) -> Path:
    """Make the folder `place` of links to the files of `shown_files`."""
    place.mkdir()
    for name, content in shown_files(folder, adapter).items():
        if isinstance(content, Path):
            (place / name).symlink_to(content.resolve())
        else:
            (place / name).write_text(content, encoding="utf-8")
    return place


def has_template(folder: Path, adapter: Path | None = None) -> bool:
    """Whether a model has a chat template: of its own folder, or of its adapter's."""
    return any(_template(place) for place in (adapter, folder) if place)


def protected_claim(folder: Path) -> str | None:
    """The claim that the training of a model by safespan protected; None if there was none."""
    protection = _read_object(folder / TRAINING).get("protection")
    return protection.get("hypothesis") if isinstance(protection, dict) else None


def named_base(adapter: Path) -> str | None:
    """The model that an adapter was trained on, as its folder names it; None if it does not."""
    name = _read_object(adapter / ADAPTER_CONFIG).get("base_model_name_or_path")
    return name if isinstance(name, str) and name else None


def adapts_parameters(adapter: Path, base: Path) -> bool:
    """Whether an adapter changes experts in the form that Transformers has in memory, which only PEFT can merge.

    It has LoRA matrices of fused parameters (`target_parameters`), which are no B·A of one file, or holds experts whole
    (`modules_to_save`) in one tensor where the base's files hold them one by one.
    """
    if _read_object(adapter / ADAPTER_CONFIG).get("target_parameters"):
        return True
    whole = [name for name in _names_in([adapter / ADAPTER_WEIGHTS]) if FUSED_EXPERTS.search(name)]
    return bool(whole) and not any(map(FUSED_EXPERTS.search, _names_in(weight_files(base))))


def _names_in(files: Iterable[Path]) -> list[str]:
    """Names of the tensors in files; none of a broken one, which whoever reads it says."""
    names: list[str] = []
    for path in files:
        try:
            with safe_open(path, framework="np") as file:
                names += file.keys()
        except (SafetensorError, OSError):
            return []
    return names


def own_tokenizer(adapter: Path) -> list[Path]:
    """The files of the tokenizer in an adapter's folder; none if there is no vocabulary among them."""
    files = tokenizer_files(adapter)
    return files if any(path.name in _VOCABULARIES for path in files) else []


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of a tokenizer and its chat template that a folder holds."""
    return [folder / name for name in _TOKENIZER if (folder / name).exists()]


def remarks(folder: Path, adapter: Path | None = None) -> list[str]:
    """What is left out of a model's folder, and whose tokenizer is taken where base and adapter have different ones."""
    lines = []
    if (folder / ADAPTER_CONFIG).is_file():
        lines.append(
            f"{folder} holds an adapter beside its weights, which is not applied: they count as saved with it; if they "
            f"are not, move {_OF_ADAPTERS}* into a folder of its own and name the model {folder}+THAT_FOLDER"
        )
    if adapter is None:
        return lines
    pairs = [(path, folder / path.name) for path in own_tokenizer(adapter) if path.name in _VOCABULARIES]
    differ = {
        "tokenizer": any(other.is_file() and _content(path) != _content(other) for path, other in pairs),
        "chat template": None not in (both := (_template(adapter), _template(folder))) and both[0] != both[1],
    }
    lines += [
        f"{folder}+{adapter}: the {what} of the adapter's folder counts as the model's own, and is not that of the "
        f"base; to have the base's, take it out of {adapter}"
        for what, is_other in differ.items()
        if is_other
    ]
    return lines


def _template(folder: Path) -> str | None:
    """The chat template that a folder's tokenizer would have, as Transformers looks for it."""
    path = folder / _TEMPLATE
    if path.is_file():
        return path.read_text(encoding="utf-8", errors="replace")
    template = _read_object(folder / _TOKENIZER_CONFIG).get("chat_template")
    if isinstance(template, list):  # several, by name
        named = [entry for entry in template if isinstance(entry, dict) and entry.get("name") == "default"]
        template = named[0].get("template") if named else None
    return template if isinstance(template, str) else None


def _content(path: Path) -> object:
    """What two vocabularies are compared by."""
    if path.name != "tokenizer.json":
        return path.read_bytes()
    return {name: value for name, value in _read_object(path).items() if name not in _OF_A_CALL}


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is none, which whoever needs it says."""
    try:
        value = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
