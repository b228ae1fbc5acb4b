"""Adapters of fused experts are merged once for their contents, the tokenizer among them."""

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from conformance.architectures import make
from safespan.checkpoints import Checkpoint, open_checkpoint
from safespan.models.merging import merged_folder


def adapter_of(base, out):
    torch.manual_seed(1)
    config = LoraConfig(r=2, target_parameters=["mlp.experts.down_proj"], target_modules=[])
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.1 * torch.randn_like(parameter))
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
