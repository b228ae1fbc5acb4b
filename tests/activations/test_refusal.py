"""What ablating and adding a direction does, against models whose weights were changed instead."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from oracle import exact
from safespan.activations import refusal
from safespan.activations.capture import decoder_blocks
from safespan.activations.refusal import ablated, added, refusal_candidates, refusal_scores, refusal_tokens

D, VOCABULARY = 16, 30

SIZE = {
    "vocab_size": VOCABULARY,
    "hidden_size": D,
    "word_embed_proj_dim": D,
    "intermediate_size": 24,
    "ffn_dim": 24,
    "n_inner": 24,
    "num_hidden_layers": 5,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "init_std": 0.3,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

ROWS = {
    "llama": ["embed_tokens.weight"],
    "gpt2": ["wte.weight", "wpe.weight", "c_proj.weight"],  # Conv1D holds weights in × out
    "opt": ["embed_tokens.weight", "embed_positions.weight"],
}
COLUMNS = {
    "llama": ["o_proj.weight", "down_proj.weight"],
    "gpt2": ["c_proj.bias"],
    "opt": ["out_proj.weight", "out_proj.bias", "fc2.weight", "fc2.bias"],
}
"""Weights that write to the residual stream: as rows, and as columns."""


def tiny(architecture: str) -> torch.nn.Module:
    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **SIZE)).eval()


def unit(seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(D, generator=torch.Generator().manual_seed(seed)), dim=0)


def projected(model: torch.nn.Module, architecture: str, direction: torch.Tensor) -> torch.nn.Module:
    """A copy in float64, every weight that writes to the residual stream without the direction."""
    copy, r = deepcopy(model).double(), torch.nn.functional.normalize(direction.double(), dim=0)
    changed = 0
    with torch.no_grad():
        for name, weight in copy.named_parameters():
            if name.endswith(tuple(ROWS[architecture])):
                weight -= (weight @ r)[:, None] * r
            elif name.endswith(tuple(COLUMNS[architecture])):
                weight -= torch.outer(r, r @ weight) if weight.ndim == 2 else r * (r @ weight)
            else:
                continue
            changed += 1
    layers = {"llama": 1 + 5 * 2, "gpt2": 2 + 5 * 4, "opt": 2 + 5 * 4}
    assert changed == layers[architecture]
    return copy


def shifted(model: LlamaForCausalLM, layer: int, vector: torch.Tensor) -> torch.nn.Module:
    """A copy in float64 whose block `layer` adds a vector: the last weight of the block gets a bias."""
    copy = deepcopy(model).double()
    copy.model.layers[layer - 1].mlp.down_proj.bias = torch.nn.Parameter(vector.double())
    return copy


@torch.no_grad()
def next_token(model: torch.nn.Module, ids: list[int]) -> np.ndarray:
    """Probabilities after one prompt, alone and unpadded."""
    return model(input_ids=torch.tensor([ids])).logits[0, -1].double().softmax(0).numpy()


def log_odds(p: np.ndarray, refusals: list[int]) -> float:
    return float(np.log(p[refusals].sum() + 1e-8) - np.log(1 - p[refusals].sum() + 1e-8))


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt"])
def test_ablation_by_hooks_is_that_of_projected_weights(architecture: str) -> None:
    model = tiny(architecture).double()
    ids = torch.randint(3, VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain, expected = model(ids).logits, projected(model, architecture, unit(1))(ids).logits
        with ablated(model, unit(1)):
            torch.testing.assert_close(model(ids).logits, expected, atol=1e-5, rtol=1e-5)
        assert (expected - plain).abs().max() > 0.1
        assert torch.equal(model(ids).logits, plain), "hooks must be gone"


@pytest.mark.parametrize("architecture", ["gpt_neox", "bloom", "phi", "gemma2", "mixtral"])
def test_the_direction_is_in_no_blocks_output(architecture: str) -> None:
    model, outputs = tiny(architecture), []

    def keep(_module: object, _given: object, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        outputs.append(output[0] if isinstance(output, tuple) else output)

    with torch.no_grad(), ablated(model, unit(1)):
        for block in decoder_blocks(model):
            block.register_forward_hook(keep)
        model(torch.arange(3, 15).view(2, 6))
    assert len(outputs) == 5
    for hidden in outputs:
        assert (hidden @ unit(1)).abs().max() < 1e-5 * hidden.norm(dim=-1).max()


@pytest.mark.parametrize("layer", [1, 4])
def test_addition_by_hooks_is_that_of_a_bias(layer: int) -> None:
    model = tiny("llama").double()
    ids = torch.randint(3, VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain, expected = model(ids).logits, shifted(model, layer, 2 * unit(1))(ids).logits
        with added(model, 2 * unit(1), layer):
            torch.testing.assert_close(model(ids).logits, expected, atol=1e-10, rtol=0)
        assert (expected - plain).abs().max() > 0.1
        assert torch.equal(model(ids).logits, plain), "hooks must be gone"


def prompts(number: int, seed: int) -> list[list[int]]:
    """Token ids of so many prompts of one to six tokens."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 7, (number,), generator=generator).tolist()
    return [torch.randint(3, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


ENCODED = {"harmful": prompts(21, 1), "useful": prompts(26, 2)}
REFUSALS = list(range(0, VOCABULARY, 2))
"""Half of the tokens, so that about half of the prompts are refused."""


@torch.no_grad()
def states(model: torch.nn.Module, encoded: list[list[int]]) -> dict[int, torch.Tensor]:
    """Layer 1 … 4 -> the residual stream at the last token of each prompt, alone and unpadded."""
    kept = [model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states for ids in encoded]
    return {layer: torch.stack([hidden[layer][0, -1] for hidden in kept]) for layer in range(1, 5)}


def test_scores_are_log_odds_of_each_prompt_alone_and_unpadded() -> None:
    model = tiny("llama")
    scores = refusal_scores(model, ENCODED["harmful"], REFUSALS, 4)
    expected = [log_odds(next_token(model, ids), REFUSALS) for ids in ENCODED["harmful"]]
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-4)
    assert min(expected) < 0 < max(expected)


@pytest.mark.parametrize("most", [64, 2])
def test_candidates_and_scores_equal_those_of_changed_weights(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusal, "VALIDATION_PROMPTS", most)
    model = tiny("llama")
    streams = {kind: states(model, encoded) for kind, encoded in ENCODED.items()}
    found = refusal_candidates(model, ENCODED, streams, REFUSALS, 4)
    assert list(found) == [1, 2, 3]
    kept, asked = {}, {}
    for kind, sign in (("harmful", 1), ("useful", -1)):
        odds = [sign * log_odds(next_token(model, ids), REFUSALS) for ids in ENCODED[kind]]
        kept[kind] = [row for row, value in enumerate(odds) if value > 0]
        assert 8 <= len(kept[kind]) < len(odds)
        asked[kind] = [ENCODED[kind][row] for row in kept[kind][1::2]][:most]
    for layer, candidate in found.items():
        harmful, useful = (exact(streams[kind][layer])[kept[kind][::2]].mean(0) for kind in ("harmful", "useful"))
        np.testing.assert_allclose(exact(candidate.direction), harmful - useful, atol=1e-5)
        direction = torch.from_numpy(harmful - useful)
        changed, raised = projected(model, "llama", direction), shifted(model, layer, direction)
        bypass = [log_odds(next_token(changed, ids), REFUSALS) for ids in asked["harmful"]]
        induce = [log_odds(next_token(raised, ids), REFUSALS) for ids in asked["useful"]]
        before, after = ([next_token(m, ids) for ids in asked["useful"]] for m in (model, changed))
        divergence = [float((p * np.log(p / q)).sum()) for p, q in zip(before, after, strict=True)]
        measured = (candidate.bypass, candidate.induce, candidate.divergence)
        np.testing.assert_allclose(measured, [np.mean(x) for x in (bypass, induce, divergence)], atol=1e-4)


@pytest.mark.parametrize("refusals", [[], list(range(VOCABULARY))])
def test_a_model_that_refuses_nothing_or_everything_has_no_candidates(refusals: list[int]) -> None:
    model = tiny("llama")
    streams = {kind: states(model, encoded) for kind, encoded in ENCODED.items()}
    assert refusal_candidates(model, ENCODED, streams, refusals) == {}


def test_the_first_token_of_a_refusal_follows_the_template_or_a_space(tiny_model_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    first = tokenizer.convert_tokens_to_ids(["i", "cannot"])
    assert refusal_tokens(tokenizer, ["i cannot help", "cannot", "i help", ""]) == first
    seen = []

    def without_template(texts: list[str], **_given: object) -> dict[str, list[list[int]]]:
        seen.extend(texts)
        return {"input_ids": [[7, 8] for _ in texts]}

    without_template.chat_template = None
    assert refusal_tokens(without_template, ["i cannot", "no"]) == [7]
    assert seen == [" i cannot", " no"]
