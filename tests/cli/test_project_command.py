"""The model of a claim, written by the command."""

import json

import pytest
import torch
from test_commands import run
from transformers import AutoModelForCausalLM

from safespan.checkpoints import open_checkpoint
from tiny_adapter import make_adapter
from tiny_model import save_tiny_model

HARMFUL = ["x y z", "w v", "u t s r", "z x"]
USEFUL = ["a b", "c d e", "f g", "h i j k"]


@pytest.fixture
def folders(tmp_path):
    return {role: save_tiny_model(tmp_path / role, seed) for seed, role in enumerate(("base", "aligned", "useful"))}


@pytest.fixture
def prompts(tmp_path):
    (tmp_path / "u.txt").write_text("\n".join(USEFUL))
    (tmp_path / "h.txt").write_text("\n".join(HARMFUL))
    return ["--prompts", f"useful={tmp_path / 'u.txt'}", "--prompts", f"harmful={tmp_path / 'h.txt'}"]


def test_a_lora_stays_a_lora_unless_told(folders, tmp_path, monkeypatch, capsys):
    adapter = make_adapter(folders["aligned"], tmp_path / "lora")
    words = ["project", "--base", folders["base"], "--aligned", folders["aligned"]]
    words += ["--finetuned", f"{folders['aligned']}+{adapter}", "--hypothesis", "safelora", "--fraction", "1"]
    assert run(monkeypatch, *words, "--out", tmp_path / "thin") == 0
    said = capsys.readouterr().out
    assert "safelora, method edit, f = 1: changes 4 of 15 matrices of the fine-tune" in said
    assert f"adapter: {tmp_path / 'thin'}, rank 3 (rounding error" in said
    assert f"name the model {folders['aligned']}+{tmp_path / 'thin'}" in said
    assert run(monkeypatch, *words, "--out", tmp_path / "full", "--full", "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["adapter"], values["rank"], values["why_full"]) == (False, None, "it was asked for")
    thin, full = open_checkpoint(f"{folders['aligned']}+{tmp_path / 'thin'}"), open_checkpoint(str(tmp_path / "full"))
    for name in full.names:
        torch.testing.assert_close(thin.load(name), full.load(name), atol=2e-6, rtol=1e-5)
    # It is written again in its own place, and nowhere else.
    assert run(monkeypatch, *words, "--out", tmp_path / "thin", "--quiet") == 0
    assert run(monkeypatch, *words, "--out", folders["base"]) == 2
    assert "was not written by this command" in capsys.readouterr().err


def test_an_update_of_rounding_alone_is_told_from_one_that_is_written_badly(folders, tmp_path, monkeypatch, capsys):
    adapter = make_adapter(folders["aligned"], tmp_path / "lora")
    words = ["project", "--aligned", folders["aligned"], "--finetuned", f"{folders['aligned']}+{adapter}"]
    # All directions of the outputs are taken away.
    words += ["--base", folders["base"], "--hypothesis", "random", "--fraction", "1", "--method", "orthogonal"]
    assert run(monkeypatch, *words, "--out", tmp_path / "out") == 0
    assert "(the update is not larger than the rounding of its number format)" in capsys.readouterr().out


def test_a_claim_that_was_not_planted_is_warned_of(folders, tmp_path, monkeypatch, caplog):
    words = ["project", "--aligned", folders["aligned"], "--finetuned", folders["useful"], "--hypothesis", "planted"]
    assert run(monkeypatch, *words, "--out", tmp_path / "out") == 0
    assert [line for line in caplog.messages if line.startswith("planted: nothing was planted in these models")]


def test_a_claim_about_activations_takes_prompts(folders, prompts, tmp_path, monkeypatch, capsys):
    words = ["project", "--aligned", folders["aligned"], "--hypothesis", "actsvd", "--out", tmp_path / "out"]
    assert run(monkeypatch, *words) == 2
    assert "needs useful and harmful prompts" in capsys.readouterr().err
    assert run(monkeypatch, *words, *prompts, "--refusal", "i cannot") == 0
    said = capsys.readouterr().out
    assert "actsvd, method ablation, f = 0.25: changes 14 of 15 matrices of the aligned model" in said
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    note = json.loads((tmp_path / "out" / "safespan.json").read_text())
    assert note["refusals"] == ["i cannot"]
    assert set(note["prompts"]) == {"useful", "harmful"}
    assert not [path for path in tmp_path.iterdir() if "activations" in path.name]


def test_a_claim_that_changes_nothing_is_warned_of(folders, prompts, tmp_path, monkeypatch, capsys, caplog):
    """No prompt is refused or answered as this claim needs, so it names no direction."""
    words = ["project", "--aligned", folders["aligned"], "--hypothesis", "refusal-direction", "--out", tmp_path / "out"]
    assert run(monkeypatch, *words, *prompts, "--json") == 0
    changed = json.loads(capsys.readouterr().out)["changed"]
    warned = "refusal-direction changes no matrix at f = 0.25: what is written is the aligned model itself"
    assert (warned in caplog.messages) == (changed == 0)
    aligned, out = open_checkpoint(str(folders["aligned"])), open_checkpoint(str(tmp_path / "out"))
    same = all(torch.equal(aligned.load(name), out.load(name)) for name in aligned.names)
    assert same == (changed == 0)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--hypothesis", "safety-layers"],
            "in a training (safespan train, --set protect.hypothesis=safety-layers)",
        ),
        (["--hypothesis", "lox"], "'lox' with the method edit changes a fine-tune: give --finetuned"),
        (["--refusal", "no"], "--refusal belongs to --prompts: give --prompts too"),
        (["--hypothesis", "nothing"], "unknown claim 'nothing'"),
        (["--method", "sideways"], "unknown method 'sideways'"),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_line(folders, words, says, tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "project", "--aligned", folders["aligned"], "--out", tmp_path / "out", *words) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert says in line
    assert not (tmp_path / "out").exists()


def test_full_models_are_refused_for_a_claim_about_adapters(folders, tmp_path, monkeypatch, capsys):
    words = ["project", "--base", folders["base"], "--aligned", folders["aligned"], "--safe", folders["useful"]]
    words += ["--finetuned", f"{folders['aligned']}+{make_adapter(folders['aligned'], tmp_path / 'lora')}"]
    assert run(monkeypatch, *words, "--hypothesis", "safemerge-factors", "--out", tmp_path / "out") == 2
    said = "safemerge-factors merges the factors of two adapters, and --safe has none: give MODEL+ADAPTER for both"
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_prompts_that_a_claim_does_not_read_are_refused(folders, prompts, tmp_path, monkeypatch, capsys):
    words = ["project", "--base", folders["base"], "--aligned", folders["aligned"], "--out", tmp_path / "out", *prompts]
    assert run(monkeypatch, *words) == 2
    assert "hypothesis 'alignment' reads no prompts: leave --prompts out" in capsys.readouterr().err


def test_a_folder_that_holds_a_run_is_not_replaced(folders, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    out.mkdir()
    (out / "safespan.json").write_text("{}")
    (out / "stages.json").write_text("{}")
    words = ["project", "--aligned", folders["aligned"], "--finetuned", folders["useful"], "--base", folders["base"]]
    assert run(monkeypatch, *words, "--out", out) == 2
    assert "holds a run too, which would be lost" in capsys.readouterr().err
    assert (out / "stages.json").exists()


def test_two_classes_of_prompts_that_are_one_or_share_rows(folders, prompts, tmp_path, monkeypatch, capsys, caplog):
    project = ["project", "--aligned", folders["aligned"], "--hypothesis", "actsvd", "--out", tmp_path / "out"]
    measure = ["activations", "--model", folders["aligned"], "--out", tmp_path / "a.csv"]
    (tmp_path / "h.txt").write_text("\n".join(USEFUL[::-1]))
    for words in (project, measure):
        assert run(monkeypatch, *words, *prompts) == 2
        assert "useful and harmful prompts are the same 4 rows" in capsys.readouterr().err
    (tmp_path / "h.txt").write_text("\n".join([*HARMFUL, USEFUL[0]]))
    for words in (project, measure):
        assert run(monkeypatch, *words, *prompts) == 0
        assert len([line for line in caplog.messages if line.startswith("prompts in both classes: 1, of 4 ")]) == 1
        caplog.clear()
