"""Both sides of the capture of last-token activations, on a randomly initialised Llama in float32.

The reference procedure takes the prompts as they come, pads them on the right in batches of the same size, runs the
whole model with its LM head, keeps every layer's hidden states of all batches and then picks the last tokens.
"""

import random
from collections.abc import Callable, Sequence
from functools import partial

import torch
from benchmarks.common.checkpoints import Shape
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from safespan.activations.capture import capture, layers_in_depth_range

BATCH, DEPTH, SHORTEST, LONGEST, MEAN = 32, "0.65:0.90", 5, 60, 23
WORDS = ("<pad>", "<bos>", "<eos>", "<unk>", *(f"w{number}" for number in range(1000)))


def prompts(count: int) -> list[str]:
    """Prompts of 5 to 60 words, 23 on average, in no order: many short, few long, as real ones are."""
    rng = random.Random(0)
    # The mean of u^p over [0, 1] is 1 / (p + 1).
    power = (LONGEST - SHORTEST) / (MEAN - SHORTEST) - 1
    lengths = [SHORTEST + round((LONGEST - SHORTEST) * ((i + 0.5) / count) ** power) for i in range(count)]
    rng.shuffle(lengths)
    return [" ".join(f"w{rng.randrange(1000)}" for _ in range(length)) for length in lengths]


def ours(shape: dict[str, int], count: int) -> Callable[[], dict[str, float]]:
    """A side: safespan's capture."""
    return partial(_ours, _model(Shape(**shape)), _tokenizer(), prompts(count))


def reference(shape: dict[str, int], count: int) -> Callable[[], dict[str, float]]:
    """A side: the reference procedure."""
    return partial(_reference, _model(Shape(**shape)), _tokenizer(), prompts(count))


def _model(shape: Shape) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**shape.config() | {"torch_dtype": "float32", "pad_token_id": 0})).eval()


def _tokenizer() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, padding_side="right", **special)


def _ours(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> dict[str, float]:
    layers = layers_in_depth_range(model.config.num_hidden_layers, DEPTH)
    return _digest(capture(model, tokenizer, texts, layers, batch_size=BATCH, chat_template=False))


@torch.no_grad()
def _reference(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> dict[str, float]:
    kept = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer(list(texts[start : start + BATCH]), padding=True, return_tensors="pt")
        out = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True)
        kept.append((out.hidden_states, batch["attention_mask"].sum(1) - 1))
    layers = layers_in_depth_range(model.config.num_hidden_layers, DEPTH)
    return _digest(
        {layer: torch.cat([hidden[layer][range(len(last)), last] for hidden, last in kept]) for layer in layers}
    )


def _digest(activations: dict[int, torch.Tensor]) -> dict[str, float]:
    """A figure a layer that tells vectors and their order apart: their product with fixed random weights."""
    weights = torch.randn(next(iter(activations.values())).shape, generator=torch.Generator().manual_seed(1))
    return {str(layer): float((vectors * weights).sum() / vectors.norm()) for layer, vectors in activations.items()}
