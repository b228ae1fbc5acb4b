"""Fine-tuning a tiny model: what the loss sees, determinism, what is written."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from safespan.errors import CheckpointError, DataError
from safespan.results import write_jsonl
from safespan.training.mixture import Example
from safespan.training.recipe import DataSource, TrainingConfig
from safespan.training.sft import encode, fine_tune

ROWS = [{"prompt": f"a b {x}", "response": f"{x} c"} for x in "defghijk"]


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    return TrainingConfig(
        data=DataSource(file=str(tmp_path / "rows.jsonl")),
        max_steps=3,
        batch_size=4,
        accumulation_steps=2,
        learning_rate=1e-2,
    )


def test_only_the_response_and_eos_are_learnt(tiny_model_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    (row,) = encode(tokenizer, [Example("a b c", "d e")], max_length=64)
    tokens = tokenizer.convert_ids_to_tokens(row["input_ids"])
    assert tokens == ["<bos>", "<user>", "a", "b", "c", "<bot>", "d", "e", "<eos>"]
    assert row["labels"] == [-100] * 6 + row["input_ids"][6:]


def test_long_rows_are_cut_and_prompts_without_room_left_out(tiny_model_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    rows = encode(tokenizer, [Example("a", "b c d e f"), Example("a b c d e f", "g")], max_length=6)
    assert [len(row["input_ids"]) for row in rows] == [len(row["labels"]) for row in rows] == [6]
    with pytest.raises(DataError, match="max_length = 3"):
        encode(tokenizer, [Example("a", "b")], max_length=3)


def test_one_step_is_adamw_on_the_mean_loss_of_the_response_tokens(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig
) -> None:
    once = config.model_copy(update={"max_steps": 1, "warmup_ratio": 0.0, "learning_rate": 1e-3})
    fine_tune(tiny_model_folder, tmp_path / "out", once, seed=0)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    total, count = torch.zeros(()), 0
    for row in encode(tokenizer, [Example(**r) for r in ROWS], 64):
        logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
        labels = torch.tensor(row["labels"][1:])
        total = total + torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")
        count += int((labels != -100).sum())
    (total / count).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), once.max_gradient_norm)
    torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0).step()
    written = load_file(tmp_path / "out" / "model.safetensors")
    for name, expected in model.named_parameters():
        if name in written:
            torch.testing.assert_close(written[name], expected.detach(), atol=2e-5, rtol=0)


def test_the_same_seed_gives_the_same_bits(tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig) -> None:
    for name, seed in (("one", 5), ("two", 5), ("other", 6)):
        fine_tune(tiny_model_folder, tmp_path / name, config, seed)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two", "other")]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_what_is_written_and_reported(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    steps: list[tuple[int, int]] = []
    fine_tune(tiny_model_folder, tmp_path / "runs" / "out", config, 0, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert capfd.readouterr().out == ""
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["out"]
    start, end = (json.loads((f / "config.json").read_text()) for f in (tiny_model_folder, tmp_path / "runs" / "out"))
    assert start == end
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "runs" / "out")
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(tiny_model_folder).chat_template
    before, after = (load_file(f / "model.safetensors") for f in (tiny_model_folder, tmp_path / "runs" / "out"))
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_bad_starts(tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere: no config.json"):
        fine_tune(tmp_path / "nowhere", tmp_path / "out", config, 0)
    plain = tmp_path / "plain"
    shutil.copytree(tiny_model_folder, plain)
    (plain / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match="no chat template"):
        fine_tune(plain, tmp_path / "out", config, 0)
    assert not (tmp_path / "out").exists()
