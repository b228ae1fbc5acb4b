"""Loading a local checkpoint as a model that runs."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from safespan.errors import CheckpointError


def load_pretrained(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a checkpoint folder's model, in its own dtype and evaluation mode, and its tokenizer.

    Only safetensors weights, no code of the checkpoint's own, nothing from the network; on a GPU if there is one.

    Raises:
        CheckpointError: the folder is missing or is not a whole checkpoint.
    """
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder}: no config.json; give a Hugging Face checkpoint folder")
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype="auto", use_safetensors=True, local_files_only=True, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{folder}: cannot be loaded as a causal language model ({reason})") from error
    model, loading = loaded
    # Transformers fills what a checkpoint lacks with random numbers and goes on.
    if lacking := sorted(loading["missing_keys"]):
        raise CheckpointError(f"{folder}: the weights lack {lacking[0]} ({len(lacking)} tensors missing in all)")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return model.to(device).eval(), tokenizer
