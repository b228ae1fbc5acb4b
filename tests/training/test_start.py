"""Tokenizers without EOS, with a pad token that the model does not have, or of another model."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from safespan.errors import CheckpointError
from safespan.files.atomic import write_jsonl
from safespan.settings.training import TrainingConfig
from safespan.training.encoding import encode
from safespan.training.mixture import Example
from safespan.training.sft import fine_tune
from safespan.training.start import longest_row

ENDS = (
    "{% for m in messages %}<user> {{ m['content'] }} <unk>\n{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"
)


def variant(folder: Path, start: Path, template: str | None = None, **fields: Any) -> Path:
    """The model with another template, and other fields of its tokenizer; those that are None are taken out."""
    shutil.copytree(start, folder)
    path = folder / "tokenizer_config.json"
    changed = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({name: value for name, value in changed.items() if value is not None}))
    if template:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def with_token(folder: Path, name: str, number: int) -> Path:
    """The same model with one more token in its tokenizer."""
    path = folder / "tokenizer.json"
    fields = json.loads(path.read_text())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    fields["added_tokens"].append({"id": number, "content": name, "special": True, **flags})
    path.write_text(json.dumps(fields))
    return folder


@pytest.fixture
def uneven(tmp_path: Path, config: TrainingConfig) -> TrainingConfig:
    """Rows of several lengths, so that batches are padded."""
    rows = [{"prompt": " ".join("abcdefgh"[:n]), "response": "i j"} for n in range(1, 9)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    return config


def test_without_eos_the_end_of_the_templates_turn_ends_a_response(
    tiny_model_folder: Path, tmp_path: Path, uneven: TrainingConfig, caplog: pytest.LogCaptureFixture
) -> None:
    start = variant(tmp_path / "start", tiny_model_folder, ENDS, eos_token=None, pad_token=None)
    tokenizer = AutoTokenizer.from_pretrained(start)
    [row] = encode(tokenizer, [Example("a", "b")], 64)
    assert tokenizer.decode(row["input_ids"]) == "<user> a <unk> <bot> b <unk>"
    assert row["labels"] == [-100] * 4 + row["input_ids"][4:]
    fine_tune(start, tmp_path / "out", uneven, 0)
    assert f"{start}: the tokenizer has no EOS token; responses end with '<unk>'" in caplog.text
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")


@pytest.mark.parametrize(("prompt_format", "template"), [("chat", "{{ messages[0]['content'] }}"), ("alpaca", ENDS)])
def test_where_nothing_ends_a_response_the_line_says_what_to_set(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig, prompt_format: str, template: str
) -> None:
    start = variant(tmp_path / "start", tiny_model_folder, template, eos_token=None)
    config = config.model_copy(update={"prompt_format": prompt_format})
    with pytest.raises(
        CheckpointError, match="no EOS token, so no response could end; set eos_token in its tokenizer_conf"
    ):
        fine_tune(start, tmp_path / "out", config, 0)
    assert not (tmp_path / "out").exists()


def test_a_pad_token_that_the_model_does_not_have_is_replaced_and_changes_nothing(
    tiny_model_folder: Path, tmp_path: Path, uneven: TrainingConfig, caplog: pytest.LogCaptureFixture
) -> None:
    start = with_token(variant(tmp_path / "start", tiny_model_folder, pad_token="[PAD]"), "[PAD]", 34)
    fine_tune(start, tmp_path / "out", uneven, 0)
    assert "the pad token '[PAD]' has number 34, and the model has 34 embeddings; '<eos>' pads instead" in caplog.text
    fine_tune(tiny_model_folder, tmp_path / "plain", uneven, 0)
    given, plain = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "plain"))
    for name in plain:
        torch.testing.assert_close(given[name], plain[name], rtol=0, atol=0)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.config.pad_token_id == AutoTokenizer.from_pretrained(tmp_path / "out").pad_token_id == 2


def test_a_pad_token_that_the_model_has_is_left_alone(
    tiny_model_folder: Path, tmp_path: Path, uneven: TrainingConfig, caplog: pytest.LogCaptureFixture
) -> None:
    fine_tune(tiny_model_folder, tmp_path / "out", uneven, 0)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").pad_token == "<pad>"
    assert caplog.records == []


def test_a_tokenizer_of_another_model_is_named(tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig) -> None:
    start = with_token(variant(tmp_path / "start", tiny_model_folder), "zebra", 34)
    write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "a zebra", "response": "b"}])
    with pytest.raises(
        CheckpointError, match=r"gives token 34 \('zebra'\), and the model has 34 embeddings; take the to"
    ):
        fine_tune(start, tmp_path / "out", config, 0)


def test_a_template_that_fails_is_said_before_the_training(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig
) -> None:
    start = variant(tmp_path / "start", tiny_model_folder, "{{ tools[0].name }}")
    with pytest.raises(CheckpointError, match=rf"{start}: its chat template fails \(None has no element 0\)"):
        fine_tune(start, tmp_path / "out", config, 0)


def test_rows_are_no_longer_than_the_context(tiny_model_folder):
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    config = TrainingConfig.model_validate({"data": "rows.jsonl", "max_length": 63})
    assert [longest_row(model, config.model_copy(update={"max_length": n})) for n in (63, 64, 65)] == [63, 64, 64]
