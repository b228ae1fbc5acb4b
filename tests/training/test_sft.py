"""Fine-tuning a tiny model: what the loss sees, determinism, what is written."""

import dataclasses
import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from safespan.errors import CheckpointError, ConfigError, DataError
from safespan.files.atomic import write_jsonl
from safespan.settings.data import TrainingData
from safespan.settings.training import TrainingConfig
from safespan.training.encoding import encode
from safespan.training.mixture import Example, mixture
from safespan.training.sft import fine_tune

ROWS = [{"prompt": f"a b {x}", "response": f"{x} c"} for x in "defghijk"]


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    return TrainingConfig(
        data=TrainingData(file=str(tmp_path / "rows.jsonl")),
        max_steps=3,
        batch_size=4,
        accumulation_steps=2,
        learning_rate=1e-2,
        compute="fp32",
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
    tiny_model_folder: Path,
    tmp_path: Path,
    config: TrainingConfig,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[tuple[int, int]] = []
    watch = nullcontext(lambda done, total: steps.append((done, total)))
    monkeypatch.setattr("safespan.training.sft.progress_task", lambda name: watch)
    fine_tune(tiny_model_folder, tmp_path / "runs" / "out", config, 0)
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
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
    with pytest.raises(CheckpointError, match=r"nowhere"):
        fine_tune(tmp_path / "nowhere", tmp_path / "out", config, 0)
    plain = tmp_path / "plain"
    shutil.copytree(tiny_model_folder, plain)
    (plain / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match="no chat template"):
        fine_tune(plain, tmp_path / "out", config, 0)
    assert not (tmp_path / "out").exists()


def test_the_record_says_how_the_weights_were_made(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig
) -> None:
    long = {"prompt": " ".join("abcdefghij"), "response": "k"}
    cut = [{"prompt": "a b c", "response": text} for text in ("d", "d e", "d e f")]  # 8 tokens with EOS, 9, and 10
    write_jsonl(tmp_path / "rows.jsonl", [*ROWS[:6], *cut, long])
    short = config.model_copy(update={"max_length": 8, "max_steps": None, "batch_size": 3, "accumulation_steps": 1})
    record = fine_tune(tiny_model_folder, tmp_path / "out", short, 0)
    assert (record.examples, record.dropped, record.cut, record.steps, record.processes) == (9, 1, 6 + 2, 3, 1)
    assert 0 < record.final_loss < 20
    written = json.loads((tmp_path / "out" / "training.json").read_text())
    assert written == dataclasses.asdict(record)
    assert TrainingConfig.model_validate(written["config"]) == short
    mixed = mixture(short, 0)
    assert (written["mixture_sha256"], written["data"][0]["sha256"]) == (mixed.sha256, mixed.parts[0].sha256)


def test_alpaca_prompts_need_no_chat_template(tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(tiny_model_folder, plain)
    (plain / "chat_template.jinja").unlink()
    alpaca = config.model_copy(update={"prompt_format": "alpaca", "max_steps": 1})
    fine_tune(plain, tmp_path / "out", alpaca, 0)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    (row,) = encode(tokenizer, [Example("a b", "c")], 64, "alpaca")
    text = tokenizer.decode(row["input_ids"])
    assert text.split()[-3:] == ["<unk>", "c", "<eos>"]  # the heading of the response, the response
    assert "a b" in text
    assert [token for token in row["labels"] if token != -100] == row["input_ids"][-2:]


def test_bf16_arithmetic_moves_fp32_weights(tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig) -> None:
    for compute in ("fp32", "bf16"):
        one = config.model_copy(update={"compute": compute, "max_steps": 2, "learning_rate": 1e-6})
        fine_tune(tiny_model_folder, tmp_path / compute, one, 0)
    start, full, half = (
        load_file(folder / "model.safetensors") for folder in (tiny_model_folder, tmp_path / "fp32", tmp_path / "bf16")
    )
    name = "model.layers.0.mlp.up_proj.weight"
    assert half[name].dtype == torch.float32
    # a step of 1e-6 would be lost in bf16 weights of size 0.3; AdamW's first step is the gradient's sign
    moved, exact = (half[name] - start[name]).sign(), (full[name] - start[name]).sign()
    assert (moved == exact).float().mean() > 0.9
    assert not torch.equal(half[name], full[name])


def test_a_tracker_that_is_not_installed_is_named(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="report_to: mlflow is not installed; pip install mlflow"):
        fine_tune(tiny_model_folder, tmp_path / "out", config.model_copy(update={"report_to": ("mlflow",)}), 0)
