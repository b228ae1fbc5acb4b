"""A model is loaded as its weights are, whatever lies beside them, with a tokenizer that it has rows for."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from safespan.checkpoints import open_checkpoint
from safespan.errors import CheckpointError
from safespan.models.gguf import convert_gguf
from safespan.models.loading import load_causal_lm
from tiny_adapter import make_adapter, make_stray
from tiny_gguf import write_gguf
from tiny_model import build_tiny_tokenizer

IDS = torch.tensor([[1, 7, 9, 4, 20]])


@torch.inference_mode()
def logits(model) -> torch.Tensor:
    return model(IDS).logits


def test_an_adapter_in_the_folder_of_a_merged_model_is_not_applied_again(tiny_model_folder, tmp_path, caplog):
    stray, merged = make_stray(tiny_model_folder, tmp_path)
    expected = logits(AutoModelForCausalLM.from_pretrained(merged))
    assert not torch.allclose(logits(AutoModelForCausalLM.from_pretrained(stray)), expected, atol=1e-3)
    model, _ = load_causal_lm(stray)
    assert torch.equal(logits(model), expected)
    assert model.name_or_path == model.config.name_or_path == str(stray)
    open_checkpoint(stray)
    open_checkpoint(stray)
    assert [record.message.partition(",")[0] for record in caplog.records] == [
        f"{stray} holds an adapter beside its weights"
    ]


def test_an_adapter_that_is_named_is_applied_once(tiny_model_folder, tmp_path):
    make_adapter(tiny_model_folder, tmp_path)
    base = shutil.copytree(tiny_model_folder, tmp_path / "base")
    for path in (tmp_path / "adapter").glob("adapter_*"):
        shutil.copy(path, base)
    expected = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    model, _ = load_causal_lm(base, adapter=base)
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=0)


def test_an_adapter_beside_a_gguf_file_is_not_applied(tmp_path):
    expected = write_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "no/such"}')
    model, _ = load_causal_lm(convert_gguf(tmp_path / "tiny.gguf", tmp_path / "cache"))
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), atol=1e-7, rtol=0)


def test_shards_in_a_subfolder(tiny_model_folder, tmp_path):
    expected = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    expected.save_pretrained(folder, max_shard_size="4KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    (folder / "sub").mkdir()
    for path in folder.glob("model-*.safetensors"):
        path.rename(folder / "sub" / path.name)
    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model-", "sub/model-"))
    assert len(list((folder / "sub").iterdir())) > 1
    assert torch.equal(logits(load_causal_lm(open_checkpoint(folder).folder)[0]), logits(expected))


@pytest.mark.parametrize("place", ["file", "configuration"])
def test_the_tokenizer_is_the_adapters_where_it_has_one(place, tiny_model_folder, tmp_path):
    adapter = make_adapter(tiny_model_folder, tmp_path)
    model, tokenizer = load_causal_lm(tiny_model_folder, adapter=adapter)
    assert tokenizer.chat_template == build_tiny_tokenizer().chat_template
    own = build_tiny_tokenizer()
    own.chat_template = "own {{ messages }}"
    own.eos_token = "h"
    own.save_pretrained(adapter)
    if place == "configuration":
        (adapter / "chat_template.jinja").unlink()
        path = adapter / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": own.chat_template}))
    again, tokenizer = load_causal_lm(tiny_model_folder, adapter=adapter)
    expected = AutoTokenizer.from_pretrained(adapter)
    assert (tokenizer.chat_template, tokenizer.eos_token) == (expected.chat_template, "h") == (own.chat_template, "h")
    whole = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model_folder), adapter)
    assert torch.equal(logits(again), logits(model))
    torch.testing.assert_close(logits(again), logits(whole), atol=1e-5, rtol=0)


def larger(folder: Path, out: Path, *words: str, template: str = "", **named: str) -> Path:
    """The same model with a tokenizer that has more words; the added ones are special if they begin with `<`."""
    shutil.copytree(folder, out)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([word for word in words if word[0] != "<"])
    tokenizer.add_tokens([word for word in words if word[0] == "<"], special_tokens=True)
    for name, word in named.items():
        setattr(tokenizer, name, word)
    tokenizer.chat_template += template
    tokenizer.save_pretrained(out)
    return out


@pytest.mark.parametrize(
    ("words", "settings", "first"),
    [
        (["zz", "yy"], {}, "'zz'"),
        (["<image>", "zz"], {}, "'zz'"),
        (["<im_start>"], {"template": "{{ '<im_start>' }}"}, "'<im_start>'"),
        (["<extra>"], {"eos_token": "<extra>"}, "'<extra>'"),
    ],
)
def test_a_tokenizer_with_more_words_than_the_embedding(words, settings, first, tiny_model_folder, tmp_path):
    folder = larger(tiny_model_folder, tmp_path / "model", *words, **settings)
    rows = len(build_tiny_tokenizer())
    says = f"{folder}: its tokenizer has {rows + len(words)} tokens and its embedding {rows} rows, none for {first}"
    with pytest.raises(CheckpointError, match=says):
        load_causal_lm(folder)


@pytest.mark.parametrize(("word", "named"), [("<image>", {}), ("<extra>", {"pad_token": "<extra>"})])
def test_a_token_that_no_text_holds_needs_no_row(word, named, tiny_model_folder, tmp_path):
    folder = larger(tiny_model_folder, tmp_path / "model", word, **named)
    _, tokenizer = load_causal_lm(folder)
    assert len(tokenizer) == len(build_tiny_tokenizer()) + 1
