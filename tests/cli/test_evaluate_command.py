import json
import shutil

import pytest
import yaml

from safespan.cli import main
from safespan.results import columns_of
from safespan.results.tables import Outcomes
from tiny_model import build_tiny_tokenizer


@pytest.fixture
def config(tmp_path):
    for name in ("harmful", "benign"):
        (tmp_path / f"{name}.txt").write_text("a b\nc d e\nf\n")
    path = tmp_path / "evaluation.yaml"
    asked = {"max_new_tokens": 4}
    fields = {
        "harmfulness": {"prompts": str(tmp_path / "harmful.txt"), "limit": 2, **asked},
        "over_refusal": {"prompts": str(tmp_path / "benign.txt"), **asked},
    }
    path.write_text(yaml.safe_dump(fields))
    return path


def run(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["safespan", "evaluate", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_outcomes_and_generations_of_one_model(config, tiny_model_folder, tmp_path, monkeypatch, capsys):
    words = [
        "--model",
        tiny_model_folder,
        "--config",
        config,
        "--set",
        "engine.batch_size=2",
        "--out",
        tmp_path / "out",
    ]
    assert run(monkeypatch, *words) == 0
    written = json.loads((tmp_path / "out" / "outcomes.json").read_text())
    assert {*columns_of(Outcomes), "utility_by_filter", "model", "evaluation"} == set(written)
    assert (written["utility_by_filter"], written["model"]) == ({}, str(tiny_model_folder))
    assert (written["n_harmful"], written["n_benign"], written["n_utility"], written["valid"]) == (2, 3, 0, True)
    rows = [json.loads(line) for line in (tmp_path / "out" / "generations.jsonl").read_text().splitlines()]
    assert [(row["kind"], row["prompt"]) for row in rows] == [
        ("harmful", "a b"), ("harmful", "c d e"), ("benign", "a b"), ("benign", "c d e"), ("benign", "f")
    ]  # fmt: skip
    assert written["over_refusal_rate"] == sum(row["refused"] for row in rows[2:]) / 3
    printed = capsys.readouterr()
    assert "n_harmful" in printed.out
    assert [line.partition(":")[0] for line in printed.err.splitlines()] == [
        "tasks and prompts",
        "answers",
        "judgement",
    ]
    assert run(monkeypatch, *words, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["written"] == str(tmp_path / "out" / "outcomes.json")
    assert told["utility"] is None  # there is no utility task
    assert {name: told[name] for name in ("n_harmful", "over_refusal_rate", "valid")} == {
        name: written[name] for name in ("n_harmful", "over_refusal_rate", "valid")
    }


def test_a_wrong_field_gets_one_line(config, tiny_model_folder, tmp_path, monkeypatch, capsys):
    words = ["--model", tiny_model_folder, "--config", config, "--set", "engine.colour=2", "--out", tmp_path / "out"]
    assert run(monkeypatch, *words) == 2
    assert "engine: unknown field 'colour'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("engine", ["memory", "hf"])
def test_a_tokenizer_of_another_model_gets_one_line(engine, config, tiny_model_folder, tmp_path, monkeypatch, capsys):
    folder, tokenizer = shutil.copytree(tiny_model_folder, tmp_path / "model"), build_tiny_tokenizer()
    rows = len(tokenizer)
    tokenizer.add_tokens(["zz"])
    tokenizer.save_pretrained(folder)
    words = ["--model", folder, "--config", config, "--set", f"engine.name={engine}", "--out", tmp_path / "out"]
    assert run(monkeypatch, *words, "--quiet") == 2
    printed = capsys.readouterr()
    [line] = printed.err.splitlines()
    assert f"its tokenizer has {rows + 1} tokens and its embedding {rows} rows" in line
    assert list((tmp_path / "out").glob("*.json*")) == []


def test_a_judges_dead_server_is_said_before_a_model_answers(config, tiny_model_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("safespan.evaluation.Evaluator.ask", None)
    judge = "harmfulness.judge={kind: llm, model: m, base_url: 'http://127.0.0.1:9/v1'}"
    words = ["--model", tiny_model_folder, "--config", config, "--set", judge, "--quiet", "--out", tmp_path / "out"]
    assert run(monkeypatch, *words) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "no server answers at http://127.0.0.1:9/v1 (Connection refused)" in printed


def test_what_of_the_models_own_folder_is_not_followed_is_said(
    config, tiny_model_folder, tmp_path, monkeypatch, caplog
):
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"repetition_penalty": 1.05}))
    assert run(monkeypatch, "--model", folder, "--config", config, "--out", tmp_path / "out") == 0
    assert "its generation_config.json asks for repetition_penalty" in caplog.text
