"""SafeMERGE of adapters against PEFT's linear combination, which the paper's code calls."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from safespan.checkpoints import Checkpoint, open_checkpoint
from safespan.projection import Family
from safespan.subspaces import Edit, decompose, find_hypothesis
from tiny_model import save_tiny_model

KINDS = {
    "plain": {"r": 3, "lora_alpha": 5, "target_modules": ["q_proj", "down_proj"]},
    "rslora": {"r": 4, "lora_alpha": 8, "use_rslora": True, "target_modules": ["o_proj", "up_proj"]},
    "embedding": {"r": 2, "lora_alpha": 6, "target_modules": ["embed_tokens", "k_proj"]},
    "negative": {"r": 2, "lora_alpha": -3, "target_modules": ["q_proj"]},
}


def untied(out, seed):
    """A model with a head of its own, so that its embedding can be adapted."""
    model = AutoModelForCausalLM.from_pretrained(save_tiny_model(out, seed))
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.config.tie_word_embeddings = False
    model.save_pretrained(out)
    return out


@pytest.fixture
def aligned(tmp_path):
    return untied(tmp_path / "aligned", 0)


def adapter(aligned, out, seed, **settings):
    torch.manual_seed(seed)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(aligned), LoraConfig(**settings))
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(out)
    return out


def family_of(aligned, tmp_path, task, safe):
    base = Checkpoint(untied(tmp_path / "base", 9))
    opened = [open_checkpoint(f"{aligned}+{folder}") for folder in (task, safe)]
    return Family(base, Checkpoint(aligned), {"contaminated": opened[0]}, opened[1])


def edits(family, claim, name):
    """The claim about one tensor of a family."""
    return find_hypothesis(claim).evaluate(family.tensor(name, "output", 0, decompose, "contaminated"))


def merged_by_peft(aligned, task, safe):
    """Name -> the update of PEFT's linear combination, and the one without its cross terms."""
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(aligned), str(task), adapter_name="task")
    model.load_adapter(str(safe), adapter_name="safe")
    model.add_weighted_adapter(["task", "safe"], [0.8, 0.2], "merged", combination_type="linear")
    layers = {name: layer for name, layer in model.base_model.model.named_modules() if hasattr(layer, "lora_A")}
    with torch.no_grad():
        return {
            f"{name}.weight": [
                # PEFT scales a merged rank-stabilised adapter by √r, though its factors hold all of the scaling.
                layer.get_delta_weight("merged") / layer.scaling["merged"],
                0.8 * layer.get_delta_weight("task") + 0.2 * layer.get_delta_weight("safe"),
            ]
            for name, layer in layers.items()
        }


@pytest.mark.parametrize("kind", KINDS)
def test_both_forms_on_adapters(kind, aligned, tmp_path):
    task = adapter(aligned, tmp_path / "task", 1, **KINDS[kind])
    safe = adapter(aligned, tmp_path / "safe", 2, **KINDS[kind] | {"lora_alpha": 2})
    family, expected = family_of(aligned, tmp_path, task, safe), merged_by_peft(aligned, task, safe)
    assert set(expected) <= set(family.names())
    for name, (crossed, linear) in expected.items():
        [factors], [plain], [mapped] = (edits(family, c, name) for c in ("safemerge-factors", "safemerge", "safelora"))
        torch.testing.assert_close(factors.update, crossed, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(plain.update, linear, atol=1e-6, rtol=1e-5)
        assert (crossed - linear).norm() > 0.1 * linear.norm()
        assert factors.score == plain.score == mapped.score


def test_a_matrix_that_no_adapter_changes_has_no_factors(aligned, tmp_path):
    task = adapter(aligned, tmp_path / "task", 1, **KINDS["plain"])
    safe = adapter(aligned, tmp_path / "safe", 2, **KINDS["plain"] | {"target_modules": ["q_proj"]})
    family = family_of(aligned, tmp_path, task, safe)
    claims = {name: edits(family, "safemerge-factors", name) for name in family.names()}
    merged = {name for name, known in claims.items() if any(isinstance(edit, Edit) for edit in known)}
    assert merged == {f"model.layers.{at}.self_attn.q_proj.weight" for at in (0, 1)}


def test_adapters_of_two_ranks_and_full_updates_have_no_factors_to_merge(aligned, tmp_path):
    task = adapter(aligned, tmp_path / "task", 1, **KINDS["plain"])
    safe = adapter(aligned, tmp_path / "safe", 2, **KINDS["plain"] | {"r": 2})
    family, name = family_of(aligned, tmp_path, task, safe), "model.layers.0.self_attn.q_proj.weight"
    assert edits(family, "safemerge-factors", name) == [None]
    full = Family(family.base, family.base, {"contaminated": family.aligned}, family.aligned)
    assert edits(full, "safemerge-factors", name) == [None]
    assert all(isinstance(edit, Edit) for edit in edits(family, "safemerge", name) + edits(full, "safemerge", name))
