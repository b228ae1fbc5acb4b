"""Inputs are caught of every matrix, whatever module multiplies with it, under the names of the files."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from conformance.architectures import config_of
from safespan.activations.capture import decoder_blocks, last_token_states, pad
from safespan.activations.weight_inputs import WeightInputs
from safespan.checkpoints.forms import form_of
from safespan.models.stored_names import StoredMatrices, stored_views

ROWS = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]


def model_of(kind: str):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config_of(kind)).eval()


def caught(model, rows: list[list[int]], side: str = "right") -> dict[str, torch.Tensor]:
    inputs, blocks = WeightInputs(model), decoder_blocks(model)
    ids, mask = pad(rows, side)
    with inputs.of_batch(mask):
        last_token_states(model, blocks, [1, 2], ids, mask)
    return inputs.joined()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["gpt2", "opt", "gpt_neox", "mixtral"])
def test_a_batch_gives_what_each_prompt_gives_alone(kind, side):
    model = model_of(kind)
    together, alone = caught(model, ROWS, side), [caught(model, [row]) for row in ROWS]
    for name, rows in together.items():
        expected = torch.cat([one[name] for one in alone if name in one])
        torch.testing.assert_close(rows, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "opt"])
def test_a_matrix_of_a_module_gives_its_output_from_what_was_caught(kind):
    model = model_of(kind)
    name = {"gpt2": "transformer.h.1.mlp.c_fc", "opt": "model.decoder.layers.1.fc1"}[kind]
    seen: list[torch.Tensor] = []
    module = model.get_submodule(name)
    module.register_forward_hook(lambda _m, _i, output: seen.append(output.reshape(-1, output.shape[-1])[-1]))
    rows = caught(model, ROWS[:1])[f"{name}.weight"]
    form = form_of(kind, f"{name}.weight", tuple(module.weight.shape))
    torch.testing.assert_close(rows[0] @ form.read(module.weight).T + module.bias, seen[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe", "granitemoe", "gpt_oss", "llama4_text"])
def test_experts_give_their_sum_from_what_was_caught_of_each(kind):
    """Σ over the experts of the last token, of its weight times down_proj times the inputs that were caught."""
    model, seen = model_of(kind), {}
    experts = next(module for module in decoder_blocks(model)[0].modules() if hasattr(module, "down_proj") and
                   getattr(module.down_proj, "ndim", 0) == 3)  # fmt: skip
    experts.register_forward_hook(lambda _m, args, output: seen.update(args=args, output=output))
    rows = caught(model, ROWS[:1])
    stored = StoredMatrices(stored_views(model))
    total = torch.zeros(model.config.hidden_size)
    used = 0
    for expert in range(len(experts.down_proj)):
        [name] = stored.within(experts.down_proj[expert])
        if name not in rows:
            continue
        used += 1
        down = experts.down_proj[expert]
        down = down.T if kind in ("gpt_oss", "llama4_text") else down
        made = down @ rows[name][0]
        if kind == "gpt_oss":
            made = made + experts.down_proj_bias[expert]
        if kind == "llama4_text":
            part = seen["output"].view(len(experts.down_proj), -1, len(total))[expert, -1]
            torch.testing.assert_close(made, part, atol=1e-4, rtol=1e-4)
            continue
        _, chosen, weights = seen["args"]
        total += weights[-1][chosen[-1] == expert].sum() * made
    assert used == model.config.num_experts_per_tok
    if kind != "llama4_text":
        torch.testing.assert_close(total, seen["output"][-1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["mixtral", "gpt_oss", "qwen3_moe"])
def test_both_matrices_of_an_expert_have_the_same_prompts(kind):
    model = model_of(kind)
    rows = caught(model, ROWS)
    first = {"mixtral": "w1.weight", "qwen3_moe": "gate_proj.weight", "gpt_oss": "gate_up_proj"}[kind]
    second = {"mixtral": "w2.weight", "qwen3_moe": "down_proj.weight", "gpt_oss": "down_proj"}[kind]
    pairs = [(name, name.replace(first, second)) for name in rows if f".{first}" in name and "experts" in name]
    assert len(pairs) > 2
    assert all(len(rows[one]) == len(rows[other]) for one, other in pairs)
    if kind == "mixtral":
        one = next(name for name, _ in pairs)
        assert torch.equal(rows[one], rows[one.replace("w1", "w3")])
