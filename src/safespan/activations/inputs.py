"""Activations for hypotheses: the residual stream and the inputs of every linear layer, at the last token."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

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
    """Capture the activations of a model on prompts, and write them for `CapturedActivations`.

    For a class of N prompts and a weight of n columns, the file holds N × n numbers in float32.

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
    tensors: dict[str, torch.Tensor] = {}
    for kind, texts in prompts.items():
        tensors |= _captured(model, tokenizer, kind, texts, batch_size)
    with atomic_path(out) as part:
        save_file(tensors, part)


def _captured(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, kind: str, prompts: Sequence[str], batch_size: int
) -> dict[str, torch.Tensor]:
    blocks = decoder_blocks(model)
    layers = range(1, len(blocks) + 1)
    encoded = encode(tokenizer, prompts, chat_template=True)
    batches: dict[str, list[torch.Tensor]] = {}
    starts = range(0, len(encoded), batch_size)
    for start in track("batches", starts, len(starts)):
        ids, mask = pad(encoded[start : start + batch_size], tokenizer.padding_side)
        last = (mask * torch.arange(mask.shape[1])).argmax(1)
        with _inputs(model, last, partial(_keep, batches, f"{INPUTS}/{kind}/")):
            states = last_token_states(model, blocks, layers, ids, mask)
        for layer, vectors in states.items():
            _keep(batches, f"{RESIDUAL}/{kind}/", str(layer), vectors)
    return {name: torch.cat(rows).contiguous() for name, rows in batches.items()}


def _keep(batches: dict[str, list[torch.Tensor]], prefix: str, name: str, rows: torch.Tensor) -> None:
    batches.setdefault(prefix + name, []).append(rows.float().cpu())


@contextmanager
def _inputs(model: PreTrainedModel, last: torch.Tensor, keep: Callable[[str, torch.Tensor], None]) -> Iterator[None]:
    """Hooks that keep the input of every linear layer at the last attended position of each row."""

    def hook(name: str, _module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        hidden = inputs[0]
        if hidden.ndim == 3:  # the inputs of routed experts are tokens without the dimension of prompts
            keep(name, hidden[torch.arange(len(last), device=hidden.device), last.to(hidden.device)])

    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    handles = [module.register_forward_pre_hook(partial(hook, f"{name}.weight")) for name, module in linear]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
