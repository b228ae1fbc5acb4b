"""Adapters of fused experts are merged once for their contents, the tokenizer among them."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from conformance import checks
from conformance.architectures import make
from oracle import mso
from safespan.checkpoints import Checkpoint, open_checkpoint
from safespan.evaluation import load_model
from safespan.models.merging import merged_folder
from safespan.overlap import update_overlap
from safespan.projection import Family

FUSED = {"target_parameters": ["mlp.experts.down_proj"], "target_modules": []}
WHOLE = {"modules_to_save": ["experts"], "target_modules": ["q_proj"]}


def adapter_of(base, out, settings=FUSED):
    torch.manual_seed(1)
    config = LoraConfig(r=2, **settings)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(out)
    return out


def test_it_is_what_peft_merges_and_another_template_is_another_model(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFESPAN_CACHE", str(tmp_path / "cache"))
    base = make("mixtral", tmp_path).aligned
    adapter = adapter_of(base, tmp_path / "adapter")
    opened = open_checkpoint(f"{base}+{adapter}")
    assert any("merged in fp32" in note for note in opened.remarks)
    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter)).merge_and_unload()
    merged.save_pretrained(tmp_path / "expected")
    expected = Checkpoint(tmp_path / "expected")
    for name in expected.names:
        torch.testing.assert_close(opened.load(name), expected.load(name))
    first = merged_folder(base, adapter)
    assert merged_folder(base, adapter) == first == opened.folder
    (base / "chat_template.jinja").write_text("other: {{ messages[0].content }}")
    second = merged_folder(base, adapter)
    assert second != first
    assert "other" in (second / "chat_template.jinja").read_text()


@pytest.mark.parametrize("settings", [FUSED, WHOLE], ids=["target_parameters", "modules_to_save"])
@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
def test_sweep_overlap_and_answers_are_those_of_the_model_that_peft_merges(kind, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("SAFESPAN_CACHE", str(tmp_path / "cache"))
    triple = make(kind, tmp_path)
    adapter = adapter_of(triple.aligned, tmp_path / "adapter", settings)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(triple.aligned), str(adapter)).eval()
    name, ids = f"{triple.aligned}+{adapter}", torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        loaded = load_model(open_checkpoint(name)).model
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, atol=1e-4, rtol=1e-4)
    model.merge_and_unload().save_pretrained(tmp_path / "merged")
    merged = triple._replace(tuned=tmp_path / "merged")
    opened = Family(Checkpoint(triple.base), Checkpoint(triple.aligned), {"useful": open_checkpoint(name)})
    monkeypatch.setattr(checks, "family", lambda _: opened)
    checks.energies(merged)  # by LAPACK, of the model that PEFT wrote
    updates = {"x": (Checkpoint(triple.base), Checkpoint(triple.aligned))}
    updates["y"] = (Checkpoint(triple.aligned), open_checkpoint(name))
    rows, _ = update_overlap(updates, "tensor", (0.5,))
    base, aligned, tuned = (checks.stored(folder) for folder in (triple.base, triple.aligned, tmp_path / "merged"))
    experts = [row for row in rows if ".experts." in row.group]
    compared = [row for row in experts if (tuned[row.group] - aligned[row.group]).any()]
    assert compared
    for row in compared:
        expected = mso(aligned[row.group] - base[row.group], tuned[row.group] - aligned[row.group], 0.5)
        assert row.mso == pytest.approx(expected, abs=1e-4)
