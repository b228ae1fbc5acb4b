"""What tokenizers, templates and lengths make impossible is found by a dry run, and before anything is done."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from datasets import config as datasets_config
from safetensors.torch import load_file, save_file

from faults.study import LETTERS, write_study
from safespan.cli import main
from safespan.errors import SafespanError
from safespan.files.atomic import read_jsonl, write_jsonl
from safespan.settings.study import StudyConfig
from safespan.study.plan import plan
from safespan.study.run import run_study
from tiny_adapter import make_adapter
from tiny_model import save_tiny_model

LONG = " ".join(LETTERS * 4)
"""As many tokens as the tiny model has room for."""


@pytest.fixture
def fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A study of two models that are given and three that are trained, and an adapter; without weights and network."""
    file = write_study(tmp_path, save_tiny_model, "http://127.0.0.1:9/v1")
    make_adapter(tmp_path / "aligned", tmp_path)

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a plan needs neither weights nor the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", refused)
    fields: dict[str, Any] = json.loads(file.read_text())
    fields["evaluation"]["harmfulness"]["judge"] = "rules"
    return fields


def fault(fields: dict[str, Any], out: Path) -> str:
    """What a plan says, which is what a run says before it does anything."""
    config = StudyConfig.model_validate(fields)
    with pytest.raises(SafespanError) as planned:
        plan(config, out)
    with pytest.raises(SafespanError) as ran:
        run_study(config, out)
    assert str(planned.value) == str(ran.value)
    assert not (out / "checkpoints").exists()
    return str(planned.value)


def test_a_study_without_a_fault_is_checked_whole_and_nothing_is_kept(fields, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets_config, "HF_DATASETS_CACHE", tmp_path / "cache")
    before = sorted(tmp_path.rglob("*"))
    *_, data, texts, _ = plan(StudyConfig.model_validate(fields), tmp_path / "run")
    assert data == "data that could not be checked yet: none"
    assert texts == "models whose tokenizer, chat template and room for the prompts could not be checked yet: none"
    assert sorted(tmp_path.rglob("*")) == before


def with_long(file: Path, row: int, field: str = "prompt") -> None:
    rows = read_jsonl(file)
    rows[row - 1][field] = LONG
    write_jsonl(file, rows)


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("harmful.jsonl", "harmful.jsonl: row 3 has 67 tokens, and the model's context is 64"),
        ("task.jsonl", "questions of the utility task: document 3 has 67 tokens, and the model's context is 64"),
        ("rows.jsonl", "rows.jsonl: row 3 has 67 tokens, and the model's context is 64"),
    ],
)
def test_a_prompt_that_does_not_fit_is_named_by_its_row(file, says, fields, tmp_path):
    with_long(tmp_path / file, 3)
    assert says in fault(fields, tmp_path / "run")


def test_a_prompt_that_is_not_asked_may_be_long(fields, tmp_path):
    with_long(tmp_path / "harmful.jsonl", 6)
    fields["evaluation"]["harmfulness"]["limit"] = 5
    fields["activations"] = None
    assert "data that could not be checked yet: none" in plan(StudyConfig.model_validate(fields), tmp_path / "run")


def test_rows_of_a_training_none_of_which_has_room_for_a_response_are_named(fields, tmp_path):
    fields["models"]["useful"]["train"]["max_length"] = 3
    says = fault(fields, tmp_path / "run")
    assert says.startswith("models.useful.train.data: ")
    assert says.endswith("no prompt leaves room for a response within max_length = 3 tokens; raise it")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "chat_template.jinja").write_text("{{ tools[0].name }}"), "its chat template fails"),
        (lambda folder: (folder / "chat_template.jinja").write_text("<user> <bot>"), "leaves out what the user says"),
        (lambda folder: (folder / "chat_template.jinja").unlink(), "the tokenizer has no chat template; start from"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "its tokenizer cannot be loaded"),
        (lambda folder: forget(folder, "config.json", "vocab_size", 5), "and its embedding 5 rows"),
        (lambda folder: forget(folder, "tokenizer_config.json", "eos_token", None), "no EOS token"),
    ],
)
def test_a_tokenizer_or_template_that_cannot_be_used_is_named(change, says, fields, tmp_path):
    if says == "no EOS token":  # what the template writes behind an answer would end it
        (tmp_path / "aligned" / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }} {% endfor %}")
    change(tmp_path / "aligned")
    assert says in fault(fields, tmp_path / "run")


def forget(folder: Path, file: str, field: str, value: object) -> None:
    known = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(known | {field: value}))


def test_the_folder_of_an_adapter_alone_is_told_to_be_one(fields, tmp_path):
    fields["models"]["useful"] = {"model": str(tmp_path / "adapter")}
    assert "holds an adapter and no model: give MODEL+ADAPTER" in fault(fields, tmp_path / "run")


def test_models_that_are_not_here_are_said_not_to_be_checked(fields, tmp_path):
    fields["models"]["base"]["model"] = "org/base"
    lines = plan(StudyConfig.model_validate(fields), tmp_path / "run")
    assert "models whose tokenizer, chat template and room for the prompts could not be checked yet: base" in lines
    fields["models"]["aligned"]["model"] = "org/aligned"
    lines = plan(StudyConfig.model_validate(fields), tmp_path / "run")
    roles = "base, aligned, useful, harmful, contaminated"
    assert f"models whose tokenizer, chat template and room for the prompts could not be checked yet: {roles}" in lines


def test_a_dry_run_at_the_command_line_has_one_line_and_writes_nothing(fields, tmp_path, monkeypatch, capsys):
    with_long(tmp_path / "harmful.jsonl", 2)
    (tmp_path / "study.yaml").write_text(json.dumps(fields))
    words = ["run", tmp_path / "study.yaml", "--out", tmp_path / "run", "--dry-run"]
    monkeypatch.setattr("sys.argv", ["safespan", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out, printed.err.count("\n")) == (2, "", 1)
    assert "harmful.jsonl: row 2 has 67 tokens" in printed.err
    assert not (tmp_path / "run").exists()


def test_a_weight_that_transformers_does_not_make_is_named_before_any_answer(fields, tmp_path):
    file = tmp_path / "aligned" / "model.safetensors"
    for role in ("base", "aligned"):
        file = tmp_path / role / "model.safetensors"
        save_file(load_file(file) | {"model.layers.0.extra.weight": torch.ones(2, 2)}, file, {"format": "pt"})
    said = fault(fields, tmp_path / "run")
    assert "model.layers.0.extra.weight (1 in all) is in its files, and not in the LlamaForCausalLM" in said
    fields["evaluation"]["engine"] = {"name": "hf"}
    plan(StudyConfig.model_validate(fields), tmp_path / "run")
