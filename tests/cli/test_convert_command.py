"""`safespan convert`: pickled weights become safetensors, by name alone, and no code in them runs."""

import json
import os
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from safespan.checkpoints import Checkpoint
from safespan.cli import main
from safespan.errors import CheckpointError
from tiny_model import save_tiny_model


@pytest.fixture
def run(monkeypatch, capsys):
    def command(*words):
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["safespan", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr()

    return command


@pytest.fixture
def pickled(tmp_path):
    """A model whose weights are in .bin files, and the weights."""
    folder = save_tiny_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    tied = weights | {"lm_head.weight": weights["model.embed_tokens.weight"]}
    torch.save(tied, folder / "pytorch_model.bin")
    return folder, weights


def sharded(folder):
    tensors = torch.load(folder / "pytorch_model.bin")
    (folder / "pytorch_model.bin").unlink()
    names = sorted(tensors)
    files = {name: f"pytorch_model-0000{number % 2 + 1}-of-00002.bin" for number, name in enumerate(names)}
    for file in set(files.values()):
        torch.save({name: tensors[name] for name in names if files[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))


@pytest.mark.parametrize("shards", [False, True])
def test_the_copy_is_the_model(shards, run, pickled, tmp_path):
    folder, weights = pickled
    if shards:
        sharded(folder)
    with pytest.raises(CheckpointError, match=r"for its .bin files: safespan convert .*model --out FOLDER"):
        Checkpoint(folder)
    code, printed = run("convert", folder, "--out", tmp_path / "out")
    assert (code, printed.out) == (0, f"model: {tmp_path / 'out'}\n")
    copy = Checkpoint(tmp_path / "out")
    assert copy.shapes.keys() == weights.keys()
    assert all(torch.equal(copy.load(name), weights[name]) for name in weights)
    assert not list((tmp_path / "out").glob("*.bin*"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(model.state_dict()["model.norm.weight"], weights["model.norm.weight"])


class Harm:
    """Makes a folder where it is unpickled."""

    def __init__(self, made):
        self.made = made

    def __reduce__(self):
        return os.mkdir, (str(self.made),)


@pytest.mark.parametrize("kind", ["code", "noise", "numbers"])
def test_other_contents_are_refused_and_do_nothing(kind, run, pickled, tmp_path):
    folder, _ = pickled
    file = folder / "pytorch_model.bin"
    match kind:
        case "code":
            file.write_bytes(pickle.dumps({"a": Harm(tmp_path / "made")}))
        case "noise":
            file.write_bytes(b"nothing of the kind")
        case "numbers":
            torch.save({"a": 1}, file)
    code, printed = run("convert", folder, "--out", tmp_path / "out", "--quiet")
    assert (code, printed.err.count("\n")) == (2, 1)
    assert ("is no tensor" if kind == "numbers" else "cannot be read as weights") in printed.err
    assert not (tmp_path / "made").exists()
    assert not (tmp_path / "out").exists()


def test_folders_without_such_weights_or_that_hold_something_else(run, pickled, tmp_path):
    folder, _ = pickled
    empty = shutil.copytree(folder, tmp_path / "empty", ignore=lambda *_: ["pytorch_model.bin"])
    code, printed = run("convert", empty, "--out", tmp_path / "out")
    assert code == 2
    assert "has neither pytorch_model.bin nor" in printed.err
    code, printed = run("convert", folder, "--out", empty)
    assert code == 2
    assert "exists and is no converted model" in printed.err
