"""Activations for hypotheses: the residual stream and the inputs of every linear layer, at the last token."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safespan.activations.capture import at_last_token, decoder_blocks, encode, last_token_states, pad
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
        prompts: kind -> texts; hypotheses ask for `useful` and `harmful`.

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
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    kept: dict[str, list[torch.Tensor]] = defaultdict(list)

    def keep(name: str, mask: torch.Tensor, _module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].ndim == 3:  # the inputs of routed experts are tokens without the dimension of prompts
            kept[f"{INPUTS}/{kind}/{name}.weight"].append(at_last_token(inputs[0], mask))

    starts = range(0, len(encoded), batch_size)
    for start in track("batches", starts, len(starts)):
        ids, mask = pad(encoded[start : start + batch_size], tokenizer.padding_side)
        with ExitStack() as hooks:
            for name, module in linear:
                hooks.enter_context(module.register_forward_pre_hook(partial(keep, name, mask)))
            states = last_token_states(model, blocks, layers, ids, mask)
        for layer, vectors in states.items():
            kept[f"{RESIDUAL}/{kind}/{layer}"].append(vectors)
    return {name: torch.cat(rows).contiguous() for name, rows in kept.items()}
