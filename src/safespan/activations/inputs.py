"""Activations for hypotheses: the inputs of every linear layer at the last token, and the residual stream."""

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from safespan.activations.capture import decoder_blocks, encode, last_token_states, pad, token_states
from safespan.activations.instruction import instruction_ends
from safespan.activations.refusal import refusal_candidates, refusal_tokens
from safespan.activations.weight_inputs import WeightInputs
from safespan.checkpoints import Checkpoint, in_block
from safespan.errors import DataError
from safespan.files.atomic import atomic_path
from safespan.linalg.stacks import matrix_names
from safespan.models.loading import load_causal_lm
from safespan.models.prompt_ids import check_room, context_length
from safespan.progress import track
from safespan.settings.base import TEMPLATE_DATE
from safespan.settings.verdict import REFUSALS
from safespan.subspaces.captured import BASE, INPUTS, INSTRUCTION, RESIDUAL, as_tensors

_log = logging.getLogger(__name__)


def capture_for_hypotheses(
    checkpoint: Checkpoint,
    prompts: Mapping[str, Sequence[str]],
    out: Path,
    batch_size: int = 32,
    refusals: Sequence[str] = REFUSALS,
    day: date = TEMPLATE_DATE,
    base: Checkpoint | None = None,
) -> None:
    """Capture the activations of a model on prompts, and write them for `CapturedActivations`.

    For a class of N prompts and a weight of n columns, the file holds N × n numbers in float32; for an expert of a
    mixture, a row for each prompt whose last token it gets. Beside them is the residual stream after every block, at
    the last token of the prompt, and of the instruction in it unless the template rewrites that.

    Args:
        checkpoint: the aligned model.
        prompts: the texts of the kinds `useful` and `harmful`.
        out: the file.
        batch_size: prompts run together.
        refusals: openings of refusals; the first token counts.
        day: today, for chat templates that ask for it.
        base: the model before its alignment, whose residual stream on the same tokens is captured too, if given.

    Raises:
        CheckpointError: a model cannot be loaded.
        DataError: there are no prompts of a kind, or base has no embedding of one of their tokens.
    """
    model, tokenizer = load_causal_lm(checkpoint.folder, adapter=checkpoint.adapter)
    tensors: dict[str, torch.Tensor] = {}
    encoded = {kind: encode(tokenizer, prompts[kind], chat_template=True, day=day) for kind in ("useful", "harmful")}
    for kind, rows in encoded.items():
        check_room(rows, context_length(model.config), f"{kind} prompts for activations", answered=False)
    streams: dict[str, dict[int, torch.Tensor]] = {}
    for kind, sequences in encoded.items():
        ends = instruction_ends(tokenizer, prompts[kind], sequences, day)
        inputs, states = _captured(model, sequences, ends, tokenizer.padding_side, batch_size)
        tensors |= {f"{INPUTS}/{kind}/{name}": rows for name, rows in inputs.items()}
        for place, stream in zip((RESIDUAL, INSTRUCTION), states, strict=False):
            tensors |= {f"{place}/{kind}/{layer}": rows for layer, rows in stream.items()}
        streams[kind] = states[0]
    _say_what_is_missing(checkpoint, tensors)
    candidates = refusal_candidates(model, encoded, streams, refusal_tokens(tokenizer, refusals), batch_size)
    del model  # two models would need twice the memory
    if base is not None:
        tensors |= _of_base(base, encoded, tokenizer.padding_side, batch_size)
    with atomic_path(out) as part:
        save_file(tensors | as_tensors(candidates), part)


def _say_what_is_missing(checkpoint: Checkpoint, tensors: Collection[str]) -> None:
    """Warn of matrices of blocks without inputs, of which claims that need them say nothing."""
    shapes = {name: shape for name, shape in checkpoint.shapes.items() if in_block(name) and len(shape) > 1}
    sizes = {one: shape[-2] * shape[-1] for name, shape in shapes.items() for one in matrix_names(name, shape)}
    missing = sum(size for name, size in sizes.items() if f"{INPUTS}/useful/{name}" not in tensors)
    if missing:
        _log.warning(
            f"{checkpoint.name}: {100 * missing / sum(sizes.values()):.0f} % of the blocks' weights have no inputs at "
            "the last tokens of the useful prompts; claims that need inputs say nothing of them"
        )


def _captured(
    model: PreTrainedModel,
    encoded: Sequence[Sequence[int]],
    ends: Sequence[int] | None,
    padding_side: str,
    batch_size: int,
) -> tuple[dict[str, torch.Tensor], list[dict[int, torch.Tensor]]]:
    """Name of a weight -> its inputs, and layer -> the residual stream behind it, a row a prompt.

    The stream is that at the last token and, where they are given, at the ends of the instructions.
    """
    blocks = decoder_blocks(model)
    layers = range(1, len(blocks) + 1)
    inputs = WeightInputs(model)
    streams = [defaultdict[int, list[torch.Tensor]](list) for _ in range(1 if ends is None else 2)]
    starts = range(0, len(encoded), batch_size)
    for start in track("batches", starts, len(starts)):
        ids, mask = pad(encoded[start : start + batch_size], padding_side)
        places = [mask]
        if ends is not None:
            places.append(mask * (mask.cumsum(1) <= torch.tensor(ends[start : start + batch_size])[:, None] + 1))
        with inputs.of_batch(mask):
            states = token_states(model, blocks, layers, ids, mask, places)
        for stream, of_place in zip(streams, states, strict=True):
            for layer, vectors in of_place.items():
                stream[layer].append(vectors)
    joined = [{layer: torch.cat(rows).contiguous() for layer, rows in stream.items()} for stream in streams]
    return inputs.joined(), joined


def _of_base(
    base: Checkpoint, encoded: Mapping[str, Sequence[Sequence[int]]], padding_side: str, batch_size: int
) -> dict[str, torch.Tensor]:
    """The residual stream of base at the last token of each prompt, as tensors of the file."""
    model, _ = load_causal_lm(base.folder, adapter=base.adapter)
    known = len(cast(torch.Tensor, model.get_input_embeddings().weight))
    for kind, sequences in encoded.items():
        if (largest := max(map(max, sequences))) >= known:
            raise DataError(
                f"base ({base.name}) has {known} tokens, and the {kind} prompts have token {largest} of the aligned "
                "model: leave out the hypotheses that need base and prompts"
            )
    blocks = decoder_blocks(model)
    tensors: dict[str, torch.Tensor] = {}
    for kind, sequences in encoded.items():
        batches = [pad(sequences[at : at + batch_size], padding_side) for at in range(0, len(sequences), batch_size)]
        layers = range(1, len(blocks) + 1)
        states = [
            last_token_states(model, blocks, layers, ids, mask) for ids, mask in track("batches", batches, len(batches))
        ]
        tensors |= {f"{BASE}/{kind}/{layer}": torch.cat([one[layer] for one in states]) for layer in layers}
    return tensors
