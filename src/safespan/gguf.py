"""GGUF files: dequantised through Transformers, once, into an ordinary checkpoint folder."""

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, modeling_gguf_pytorch_utils
from transformers.utils.import_utils import is_gguf_available

from safespan.errors import CheckpointError
from safespan.loading import PLAIN, check_sizes, hide_progress_bars, refused
from safespan.progress import counted
from safespan.results import atomic_path


def convert_gguf(path: Path, cache: Path | None = None) -> Path:
    """Convert a GGUF file into a folder with safetensors weights and tokenizer, or find the one made before.

    The weights are stored in fp32: a dequantised value is a scale times an integer, which bf16 would round once more.

    Args:
        path: the .gguf file.
        cache: where converted folders are kept, by the file's SHA-256; `$SAFESPAN_CACHE` or `~/.cache/safespan`
            unless given.

    Raises:
        CheckpointError: no such file, not a GGUF file that Transformers reads, or the package gguf is missing.
    """
    if not os.path.isfile(path):
        raise CheckpointError(f"{path}: no such file; a .gguf file was expected here")
    with path.open("rb") as file:
        start = file.read(16)
        if start[:4] != b"GGUF":
            raise CheckpointError(f"{path} is not a GGUF file: it does not begin with GGUF; copy it again")
        tensors = int.from_bytes(start[8:], "little")
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    place = cache or Path(os.environ.get("SAFESPAN_CACHE") or Path.home() / ".cache" / "safespan")
    folder = place / "gguf" / f"{path.stem}-{digest[:16]}"
    if folder.is_dir():
        return folder
    if not is_gguf_available():
        raise CheckpointError(f"{path}: reading GGUF files needs the package gguf: pip install 'safespan[gguf]'")
    hide_progress_bars()
    # The bar of this reader is not hidden by that.
    setattr(modeling_gguf_pytorch_utils, "tqdm", lambda rows, **_: counted("tensors", rows, len(rows)))  # noqa: B010
    source: dict[str, Any] = {"gguf_file": path.name, **PLAIN}
    with refused(f"{path} cannot be read as a GGUF model"):
        config = AutoConfig.from_pretrained(path.parent, **source)
        check_sizes(config, tensors, 8 * path.stat().st_size, str(path))
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path.parent, dtype=torch.float32, output_loading_info=True, **source
        )
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **source)
    model, loading = loaded
    # Transformers fills what a file lacks with random numbers and goes on.
    if lacking := sorted(loading["missing_keys"]):
        raise CheckpointError(f"{path} lacks {lacking[0]} ({len(lacking)} tensors missing in all); convert it again")
    # The weights are plain numbers now; what is saved must not say that they are still quantised.
    setattr(model, "hf_quantizer", None)  # noqa: B010 - a plain assignment is read as one of a submodule
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    with atomic_path(folder) as part:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
    return folder
