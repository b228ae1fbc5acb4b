"""`safespan inspect`: what is seen of models, in words and as data, without weights."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from conformance.architectures import make
from safespan.checkpoints import Checkpoint
from safespan.cli import main
from tiny_model import save_tiny_model


@pytest.fixture
def run(monkeypatch, capsys):
    def refused(*_, **__):
        raise AssertionError("an inspection loads no weights")

    def command(*words):
        monkeypatch.setattr("sys.argv", ["safespan", "inspect", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr()

    monkeypatch.setattr(Checkpoint, "load", refused)
    return command


@pytest.mark.parametrize(
    ("kind", "tensors", "transposed", "experts"),
    [("gpt2", {"matrices": 10, "vectors": 18}, 8, 0), ("gpt_oss", None, 4, 4), ("mixtral", None, 0, 4)],
)
def test_what_is_seen_of_an_architecture(kind, tensors, transposed, experts, run, tmp_path):
    folder = make(kind, tmp_path).aligned
    code, printed = run(folder, "--json")
    [seen] = json.loads(printed.out)["models"]
    assert code == 0
    assert (seen["model_type"], seen["transposed"], seen["experts"]) == (kind, transposed, experts)
    assert seen["layers"] == {"layer": 2}
    assert tensors in (None, seen["tensors"])
    assert seen["chat_template"] is True
    assert seen["parameters"] == sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())


def test_of_several_it_is_said_what_differs(run, tmp_path):
    one, other = (save_tiny_model(tmp_path / name) for name in ("one", "other"))
    code, printed = run(one, other)
    assert (code, printed.out.splitlines()[-1]) == (0, "together: the same 20 tensors in all")
    file = other / "model.safetensors"
    tensors = load_file(file)
    table = tensors["model.embed_tokens.weight"]
    save_file(tensors | {"model.embed_tokens.weight": torch.cat([table, table[:1]])}, file, {"format": "pt"})
    code, printed = run(one, other)
    assert code == 0
    assert f"the first {len(table)} rows of embeddings and heads are compared" in printed.out


def test_a_quantised_model_is_shown_with_why_it_is_refused(run, tmp_path):
    folder = save_tiny_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "awq"}}))
    code, printed = run(folder)
    assert code == 0
    assert "refused: " in printed.out
    assert "quantised weights (awq)" in printed.out
