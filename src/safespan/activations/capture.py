"""One residual-stream vector per prompt and layer, at the last attended token (METHODS §4)."""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import date
from functools import partial

import torch
from jaxtyping import Float, Int
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safespan.errors import CheckpointError, ConfigError, DataError
from safespan.models.chat import chat_texts
from safespan.models.prompt_ids import check_room, context_length, prompt_ids
from safespan.progress import track
from safespan.settings.base import TEMPLATE_DATE

_BLOCK_LISTS = ("layers", "h", "blocks")


class _EnoughError(Exception):
    """Ends the forward pass after the last requested layer."""


def capture(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    layers: Sequence[int] | None = None,
    batch_size: int = 32,
    chat_template: bool = True,
    day: date = TEMPLATE_DATE,
) -> dict[int, Float[torch.Tensor, "N d"]]:
    """Residual stream at the last attended token of every prompt, at the output of each decoder block.

    Layer ℓ = 1 … L is the output of block ℓ. The output of block L is the residual stream itself, before the
    final norm. Only the backbone runs, without the LM head, and a batch's hidden states are dropped block by block.

    Args:
        model: a decoder-only model.
        tokenizer: its tokenizer; batches are padded on its `padding_side`. It needs no pad token.
        prompts: N texts.
        layers: the layers to capture; all of them if None.
        batch_size: prompts run together, of similar length.
        chat_template: format each prompt as a turn of the user, if the tokenizer has a template.
        day: today, for templates that ask for it.

    Returns:
        layer -> N × d, float32 on the CPU, rows in the order of `prompts`.

    Raises:
        ConfigError: a layer outside 1 … L.
        DataError: no prompts, or a prompt without tokens.
        CheckpointError: the model's decoder blocks cannot be found.
    """
    blocks = decoder_blocks(model)
    wanted = list(layers) if layers is not None else list(range(1, len(blocks) + 1))
    if outside := [layer for layer in wanted if not 1 <= layer <= len(blocks)]:
        raise ConfigError(f"layer {outside[0]} does not exist: this model's layers are 1 to {len(blocks)}")
    encoded = encode(tokenizer, prompts, chat_template, day)
    check_room(encoded, context_length(model.config), "prompts for activations", answered=False)
    order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
    width = model.config.get_text_config().hidden_size
    result = {layer: torch.empty(len(encoded), width) for layer in wanted}
    starts = range(0, len(order), batch_size)
    for start in track("batches", starts, len(starts)):
        rows = order[start : start + batch_size]
        ids, mask = pad([encoded[row] for row in rows], tokenizer.padding_side)
        for layer, vectors in last_token_states(model, blocks, wanted, ids, mask).items():
            result[layer][rows] = vectors
    return result


def encode(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], chat_template: bool, day: date = TEMPLATE_DATE
) -> list[list[int]]:
    """Token ids of every prompt, in the chat template if there is one."""
    if not prompts:
        raise DataError("there are no prompts to capture activations of")
    templated = chat_template and tokenizer.chat_template is not None
    encoded = prompt_ids(tokenizer, chat_texts(tokenizer, prompts, day) if templated else prompts)
    if [] in encoded:
        raise DataError(f"prompt {prompts[encoded.index([])]!r} has no tokens")
    return encoded


def pad(sequences: Sequence[Sequence[int]], side: str) -> tuple[Int[torch.Tensor, "B T"], Int[torch.Tensor, "B T"]]:
    """Token ids and attention mask of a batch, padded on the left or the right with masked zeros."""
    rows = [torch.tensor(sequence) for sequence in sequences]
    ids = pad_sequence(rows, batch_first=True, padding_side=side)
    return ids, pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side=side)


def last_token_states(
    model: PreTrainedModel,
    blocks: torch.nn.ModuleList,
    layers: Sequence[int],
    ids: Int[torch.Tensor, "B T"],
    mask: Int[torch.Tensor, "B T"],
) -> dict[int, Float[torch.Tensor, "B d"]]:
    """Output of the requested blocks at the last attended position of each row; for errors see `token_states`."""
    return token_states(model, blocks, layers, ids, mask, [mask])[0]


@torch.no_grad()
def token_states(
    model: PreTrainedModel,
    blocks: torch.nn.ModuleList,
    layers: Sequence[int],
    ids: Int[torch.Tensor, "B T"],
    mask: Int[torch.Tensor, "B T"],
    places: Sequence[Int[torch.Tensor, "B T"]],
) -> list[dict[int, Float[torch.Tensor, "B d"]]]:
    """Output of the requested blocks at one position of each row, for each of `places`, of one forward pass.

    Args:
        model: a decoder-only model.
        blocks: its decoder blocks.
        layers: the layers, from 1.
        ids: token ids.
        mask: attention mask.
        places: masks, each of which ends at the position that is wanted.

    Raises:
        CheckpointError: an output is not finite.
    """
    # Padding on the left would otherwise shift the positions of shorter prompts.
    position_ids = (mask.cumsum(1) - 1).clamp(min=0)
    states: list[dict[int, torch.Tensor]] = [{} for _ in places]

    def keep(layer: int, _module: object, _inputs: object, output: torch.Tensor | Sequence[torch.Tensor]) -> None:
        hidden = output if isinstance(output, torch.Tensor) else output[0]
        for of_place, upto in zip(states, places, strict=True):
            of_place[layer] = at_last_token(hidden, upto)
        if layer == max(layers):
            raise _EnoughError

    with ExitStack() as hooks, suppress(_EnoughError):
        for layer in layers:
            hooks.enter_context(blocks[layer - 1].register_forward_hook(partial(keep, layer)))
        model.base_model(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            position_ids=position_ids.to(model.device),
            use_cache=False,
        )
    if missing := sorted(set(layers) - states[0].keys()):
        raise CheckpointError(
            f"{type(model).__name__}: no text runs through block {missing[0]} of those that were found"
        )
    for layer, vectors in [pair for of_place in states for pair in of_place.items()]:
        if not bool(torch.isfinite(vectors).all()):
            raise CheckpointError(
                f"the activations of layer {layer} hold NaN or Inf: in {model.dtype} they overflow; store the model in "
                "bfloat16 or float32"
            )
    return states


def at_last_token(hidden: Float[torch.Tensor, "B T d"], mask: Int[torch.Tensor, "B T"]) -> Float[torch.Tensor, "B d"]:
    """The vector at the last attended position of each row, float32 on the CPU."""
    last = (mask * torch.arange(mask.shape[1])).argmax(1).to(hidden.device)
    return hidden[torch.arange(len(last), device=hidden.device), last].float().cpu()


def decoder_blocks(model: PreTrainedModel) -> torch.nn.ModuleList:
    """The list of the decoder blocks of the language model.

    Raises:
        CheckpointError: no list of `num_hidden_layers` modules under a usual name.
    """
    count = model.config.get_text_config().num_hidden_layers
    # A vision tower may have as many blocks, and come first.
    decoder: torch.nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]
    for name, module in [*decoder.named_modules(), *model.named_modules()]:
        is_named = name.rpartition(".")[2] in _BLOCK_LISTS
        if is_named and isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return module
    raise CheckpointError(
        f"{type(model).__name__}: found no list of {count} decoder blocks named {', '.join(_BLOCK_LISTS)}"
    )


def layers_in_depth_range(total: int, text: str) -> list[int]:
    """Layers ℓ of 1 … total with low ≤ ℓ / total ≤ high, for a range such as `0.65:0.90`.

    Raises:
        ConfigError: not two numbers with 0 ≤ low ≤ high ≤ 1, or no layer lies between them.
    """
    low_text, _, high_text = text.partition(":")
    try:
        low, high = float(low_text), float(high_text)
    except ValueError:
        raise ConfigError(f"layers {text!r}: expected two shares of the depth, such as 0.65:0.90") from None
    if not 0 <= low <= high <= 1:
        raise ConfigError(f"layers {text!r}: expected 0 ≤ low ≤ high ≤ 1, such as 0.65:0.90")
    chosen = [layer for layer in range(1, total + 1) if low <= layer / total <= high]
    if not chosen:
        raise ConfigError(f"layers {text!r}: none of the {total} layers lies in this range; widen it")
    return chosen
