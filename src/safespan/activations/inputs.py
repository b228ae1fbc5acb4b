"""What hypotheses need of activations: the residual stream, and the inputs of every linear layer, at the last token."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safespan.activations.capture import decoder_blocks, encode, last_token_states, pad
from safespan.checkpoints import Checkpoint
from safespan.files.atomic import atomic_path
from safespan.models.loading import load_causal_lm
from safespan.progress import track
from safespan.subspaces.captured import INPUTS, RESIDUAL


def capture_for_hypotheses(
    checkpoint: Checkpoint, prompts: Mapping[str, Sequence[str]], out: Path, batch_size: int = 32
) -> None:
    """Run a model over prompts once, and write what `CapturedActivations` reads.

    The file holds N × n numbers of a class of N prompts for each weight of n columns, in float32.

    Args:
        checkpoint: the model, with its tokenizer.
        prompts: kind -> texts; hypotheses ask for `useful` and `harmful`.
        out: the file to write.
        batch_size: prompts a forward pass.

    Raises:
        CheckpointError: the model cannot be loaded.
        DataError: there are no prompts of a kind.
    """
    model, tokenizer = load_causal_lm(checkpoint.folder, adapter=checkpoint.adapter)
    found: dict[str, torch.Tensor] = {}
    for kind, texts in prompts.items():
        found |= _captured(model, tokenizer, kind, texts, batch_size)
    with atomic_path(out) as part:
        save_file(found, part)


def _captured(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, kind: str, prompts: Sequence[str], batch_size: int
) -> dict[str, torch.Tensor]:
    blocks = decoder_blocks(model)
    layers = range(1, len(blocks) + 1)
    encoded = encode(tokenizer, prompts, chat_template=True)
    found: dict[str, list[torch.Tensor]] = {}
    starts = range(0, len(encoded), batch_size)
    for start in track("batches", starts, len(starts)):
        ids, mask = pad(encoded[start : start + batch_size], tokenizer.padding_side)
        last = (mask * torch.arange(mask.shape[1])).argmax(1)
        with _inputs(model, last, partial(_keep, found, f"{INPUTS}/{kind}/")):
            states = last_token_states(model, blocks, layers, ids, mask)
        for layer, vectors in states.items():
            _keep(found, f"{RESIDUAL}/{kind}/", str(layer), vectors)
    return {name: torch.cat(parts).contiguous() for name, parts in found.items()}


def _keep(found: dict[str, list[torch.Tensor]], start: str, name: str, rows: torch.Tensor) -> None:
    found.setdefault(start + name, []).append(rows.float().cpu())


@contextmanager
def _inputs(model: PreTrainedModel, last: torch.Tensor, keep: Any) -> Iterator[None]:
    """Hooks on every linear layer inside the blocks that keep its input at the last attended position of each row."""

    def hook(name: str, _module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        hidden = given[0]
        if hidden.ndim == 3:  # routed experts see a list of tokens, and not rows of prompts
            keep(name, hidden[torch.arange(len(last), device=hidden.device), last.to(hidden.device)])

    linear = [(name, part) for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)]
    handles = [part.register_forward_pre_hook(partial(hook, f"{name}.weight")) for name, part in linear]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
