"""What the difference of means of each layer does to refusals: ablated, and added (Arditi et al., arXiv 2406.11717)."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safespan.activations.capture import decoder_blocks, pad
from safespan.progress import track
from safespan.subspaces.captured import RefusalCandidate
from safespan.subspaces.hypotheses.refusal_direction import early_layers

VALIDATION_PROMPTS = 64
"""At most so many prompts of each kind are asked again under every candidate; the paper has 32."""

_TINY = 1e-8
"""Added to probabilities before their logarithm is taken, as in the paper's code."""

Streams = Mapping[int, Float[torch.Tensor, "N d"]]


def refusal_candidates(
    model: PreTrainedModel,
    encoded: Mapping[str, Sequence[Sequence[int]]],
    streams: Mapping[str, Streams],
    refusals: Sequence[int],
    batch_size: int = 32,
) -> dict[int, RefusalCandidate]:
    """The difference of the mean activations on harmful and on useful prompts at each layer ℓ < 0.8 L, with its scores.

    As in the paper, harmful prompts that the model does not refuse are left out, and useful ones that it refuses. Every
    other prompt of the rest goes into the means, the remaining ones are asked again.

    Args:
        model: the aligned model.
        encoded: token ids of the prompts of the kinds `harmful` and `useful`.
        streams: kind -> layer -> the residual stream after that block at the last token of each prompt.
        refusals: tokens that refusals begin with.
        batch_size: prompts run together.

    Returns:
        Layer -> candidate; empty where one kind has fewer than two prompts left.
    """
    asked, means = {}, {}
    for kind, sign in (("harmful", 1), ("useful", -1)):
        scores = sign * refusal_scores(model, encoded[kind], refusals, batch_size)
        kept = [row for row, score in enumerate(scores.tolist()) if score > 0]
        if len(kept) < 2:
            return {}
        means[kind] = {layer: rows[kept[::2]].mean(0) for layer, rows in streams[kind].items()}
        asked[kind] = [encoded[kind][row] for row in kept[1::2][:VALIDATION_PROMPTS]]
    plain = torch.cat([logits.float() for logits in _last_logits(model, asked["useful"], batch_size)])
    blocks, candidates = decoder_blocks(model), {}
    layers = early_layers(len(blocks))
    for layer in track("layers", layers, len(layers)):
        direction = means["harmful"][layer] - means["useful"][layer]
        with ablated(model, direction / direction.norm().clamp(min=_TINY)):
            bypass = refusal_scores(model, asked["harmful"], refusals, batch_size)
            divergences = _divergences(plain, model, asked["useful"], batch_size)
        with added(model, direction, layer):
            induce = refusal_scores(model, asked["useful"], refusals, batch_size)
        scores = torch.stack([bypass.mean(), induce.mean(), divergences.mean()])
        if bool(direction.any()) and bool(scores.isfinite().all()):
            candidates[layer] = RefusalCandidate(direction, *scores.tolist())
    return candidates


def refusal_tokens(tokenizer: PreTrainedTokenizerBase, refusals: Sequence[str]) -> list[int]:
    """First tokens of the openings of refusals, as they follow a prompt: after a space where there is no template."""
    lead = "" if tokenizer.chat_template else " "
    encoded: list[list[int]] = tokenizer([lead + text for text in refusals], add_special_tokens=False)["input_ids"]
    return list(dict.fromkeys(ids[0] for ids in encoded if ids))


def refusal_scores(
    model: PreTrainedModel, encoded: Sequence[Sequence[int]], refusals: Sequence[int], batch_size: int
) -> Float[torch.Tensor, " N"]:
    """The log-odds that each response begins with one of the tokens, log p − log(1 − p), in float64 on the CPU."""
    probabilities = [logits.softmax(1)[:, list(refusals)].sum(1) for logits in _last_logits(model, encoded, batch_size)]
    p = torch.cat(probabilities).cpu()
    return (p + _TINY).log() - (1 - p + _TINY).log()


@contextmanager
def ablated(model: PreTrainedModel, direction: Float[torch.Tensor, " d"]) -> Iterator[None]:
    """Take a unit direction out of the input of every block, and of what attention and MLP put out, at every token."""

    def without(hidden: torch.Tensor) -> torch.Tensor:
        along = direction.to(hidden)
        return hidden - (hidden @ along)[..., None] * along

    def before(_module: object, args: Any, kwargs: Any) -> Any:
        if args:
            return (without(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": without(kwargs["hidden_states"])}

    def after(_module: object, _args: object, output: object) -> object:
        first = output[0] if isinstance(output, tuple | list) else output
        if not isinstance(first, torch.Tensor) or first.shape[-1] != len(direction):
            return output  # no vectors of the residual stream: positions, the inside of an MLP
        return type(output)([without(first), *output[1:]]) if isinstance(output, tuple | list) else without(first)

    with ExitStack() as hooks:
        for block in decoder_blocks(model):
            hooks.enter_context(block.register_forward_pre_hook(before, with_kwargs=True))
            for part in block.children():
                if "norm" not in type(part).__name__.lower():
                    hooks.enter_context(part.register_forward_hook(after))
        yield


@contextmanager
def added(model: PreTrainedModel, vector: Float[torch.Tensor, " d"], layer: int) -> Iterator[None]:
    """Add a vector to the residual stream after block `layer` = 1 … L, at every token."""

    def after(_module: object, _args: object, output: Any) -> object:
        if isinstance(output, tuple | list):
            return type(output)([output[0] + vector.to(output[0]), *output[1:]])
        return output + vector.to(output)

    with decoder_blocks(model)[layer - 1].register_forward_hook(after):
        yield


def _divergences(
    plain: Float[torch.Tensor, "N V"], model: PreTrainedModel, encoded: Sequence[Sequence[int]], batch_size: int
) -> Float[torch.Tensor, " N"]:
    """KL(plain ‖ the model as it is now) of the next token, in nats."""
    sums = []
    batches = zip(torch.split(plain, batch_size), _last_logits(model, encoded, batch_size), strict=True)
    for before, now in batches:
        expected = before.double().log_softmax(1)
        sums.append((expected.exp() * (expected - now.log_softmax(1))).sum(1))
    return torch.cat(sums).cpu()


@torch.no_grad()
def _last_logits(
    model: PreTrainedModel, encoded: Sequence[Sequence[int]], batch_size: int
) -> Iterator[Float[torch.Tensor, "B V"]]:
    """Logits of the token behind each prompt, in float64, batch by batch."""
    # Without this, the logits of every token of a batch would be in memory.
    last = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    for start in range(0, len(encoded), batch_size):
        ids, mask = pad(encoded[start : start + batch_size], "left")
        output = model(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            position_ids=(mask.cumsum(1) - 1).clamp(min=0).to(model.device),
            use_cache=False,
            **last,
        )
        yield output.logits[:, -1].double()
