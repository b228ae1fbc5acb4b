"""Adapters of fused experts, merged by PEFT into a copy of their base."""

import hashlib
from pathlib import Path

import torch

from safespan.files.atomic import atomic_path
from safespan.files.content import cache_folder, content_hash
from safespan.models.folders import ADAPTER_CONFIG, ADAPTER_WEIGHTS, text_hash, weight_files
from safespan.models.loading import load_causal_lm


def merged_folder(base: Path, adapter: Path, cache: Path | None = None) -> Path:
    """Merge an adapter into its base in fp32, or return the cached folder.

    Args:
        base: the model's folder.
        adapter: the adapter's.
        cache: folder of merged models, by content; `cache_folder()` by default.

    Raises:
        CheckpointError: either is broken, or they do not belong together.
    """
    files = [*weight_files(base), adapter / ADAPTER_CONFIG, adapter / ADAPTER_WEIGHTS]
    hashes = [*(str(content_hash(file)) for file in files), text_hash(base, adapter)]
    digest = hashlib.sha256("".join(hashes).encode()).hexdigest()
    folder = (cache or cache_folder()) / "merged" / f"{adapter.name}-{digest[:16]}"
    if not folder.is_dir():
        model, tokenizer = load_causal_lm(base, torch.float32, adapter, device="cpu")
        with atomic_path(folder) as part:
            model.save_pretrained(part)
            tokenizer.save_pretrained(part)
    return folder
