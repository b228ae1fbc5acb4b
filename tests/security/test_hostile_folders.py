"""Model folders, training states and run folders from elsewhere: nothing in them is run, nothing outside is touched."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch

from safespan.checkpoints import Checkpoint, open_checkpoint, write_checkpoint
from safespan.errors import CheckpointError, DataError
from safespan.evaluation.judges import make_judge
from safespan.files.atomic import atomic_path, write_jsonl
from safespan.models.loading import load_causal_lm
from safespan.report.generations import responses
from safespan.report.page import read_results
from safespan.results import RunFolder, write_table
from safespan.results.tables import ModelRow
from safespan.settings.judges import ClassifierConfig
from table_rows import row_of
from tiny_model import save_tiny_model

SOURCE = Path(__file__).parents[2] / "src"


class Escape:
    """An object that runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.fixture
def folder(tmp_path) -> Path:
    return save_tiny_model(tmp_path / "model")


def test_the_pickle_of_these_tests_would_run(tmp_path) -> None:
    pickle.loads(pickle.dumps(Escape(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


def test_pickled_weights_are_not_opened(folder, tmp_path) -> None:
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.pt", "adapter_model.bin", "training_args.bin"):
        torch.save(Escape(tmp_path / "mark"), folder / name)
    for read in (open_checkpoint, load_causal_lm):
        with pytest.raises(CheckpointError):
            read(folder)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    torch.save(Escape(tmp_path / "mark"), adapter / "adapter_model.bin")
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(CheckpointError, match="only adapters in safetensors"):
        open_checkpoint(f"{save_tiny_model(tmp_path / 'whole')}+{adapter}")
    assert not (tmp_path / "mark").exists()


def test_the_state_that_a_training_goes_on_from_is_not_unpickled(tmp_path) -> None:
    """Trainer's own loading, which `resume` relies on, refuses what is more than tensors and numbers."""
    from transformers import trainer

    torch.save(Escape(tmp_path / "mark"), tmp_path / "optimizer.pt")
    source = Path(trainer.__file__).read_text(encoding="utf-8")
    calls = re.findall(r"torch\.load\((?:[^()]|\([^()]*\))*\)", source)
    assert len(calls) > 3
    assert all("weights_only=True" in call for call in calls)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "optimizer.pt", weights_only=True)
    assert not (tmp_path / "mark").exists()


def test_our_own_code_unpickles_nothing_and_starts_no_shell() -> None:
    banned = re.compile(
        r"\bpickle\b|torch\.load|allow_pickle|joblib|trust_remote_code=True|os\.system|subprocess|shell="
    )
    files = {str(path.relative_to(SOURCE)): path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}
    assert len(files) > 100
    # Messages between our own processes, on a pipe that nobody else has; and how many cores there are.
    ours = {"messages.py": {"pickle"}, "processes.py": {"subprocess"}}
    allowed = {f"safespan/execution/{name}": words for name, words in ours.items()}
    # `safespan calibrate` times the start of a process.
    allowed["safespan/study/costs/samples.py"] = {"subprocess"}
    # `safespan convert`, where a user asks for it; of tensors alone.
    converts = "safespan/checkpoints/pickled.py"
    allowed[converts] = {"torch.load"}
    assert files[converts].count("torch.load(") == files[converts].count("weights_only=True") == 1
    assert {name: set(words) for name, text in files.items() if (words := banned.findall(text))} == allowed


@pytest.mark.parametrize("kind", ["llama", "of-its-own"])
def test_code_that_comes_with_a_model_is_neither_run_nor_offered(folder, tmp_path, kind, monkeypatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": kind, "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')")
    if kind == "llama":
        load_causal_lm(folder)
    else:
        for read in (load_causal_lm, lambda place: make_judge(ClassifierConfig(model=str(place)), tmp_path)):
            with pytest.raises(CheckpointError, match="cannot be loaded"):
                read(folder)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("field", ["num_hidden_layers", "hidden_size", "vocab_size", "intermediate_size"])
def test_a_configuration_that_asks_for_more_than_the_files_hold(folder, field) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {field: 10**7}))
    with pytest.raises(CheckpointError, match="asks for 10000000 layers|its files hold|cannot be loaded"):
        load_causal_lm(folder)


def test_a_pipe_is_not_waited_for(tmp_path) -> None:
    for name in ("model.safetensors", "model.safetensors.index.json", "config.json"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(CheckpointError, match="only safetensors"):
        Checkpoint(tmp_path)


def test_a_link_out_of_a_model_folder_is_not_copied(folder, tmp_path) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder / "notes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match="link out of its folder"):
        write_checkpoint(tmp_path / "out", iter([]), folder, {})
    assert not (tmp_path / "out").exists()


def test_links_of_the_hubs_cache_are_copied(folder, tmp_path) -> None:
    blobs, snapshot = tmp_path / "models--a" / "blobs", tmp_path / "models--a" / "snapshots" / "main"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in folder.iterdir():
        shutil.copy(path, blobs / path.name)
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    checkpoint = Checkpoint(snapshot)
    write_checkpoint(tmp_path / "out", ((name, checkpoint.load(name)) for name in checkpoint.names), snapshot, {})
    assert (tmp_path / "out" / "config.json").read_bytes() == (folder / "config.json").read_bytes()


@pytest.mark.parametrize("name", ["=1+1", "@x", "+x", "-x", "a\nb"])
def test_a_tensor_is_not_named_like_a_formula(tmp_path, name) -> None:
    from safetensors.torch import save_file

    save_file({name: torch.ones(2, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="no name of a tensor"):
        Checkpoint(tmp_path)


def run_folder(place: Path, model: str | None) -> RunFolder:
    run = RunFolder(place / "run")
    write_table(run.table("models"), ModelRow, [row_of(ModelRow, model=model)])
    write_jsonl(place / "secret.jsonl", [{"kind": "harmful", "prompt": "secret", "response": "secret"}])
    (run.root / "generations").mkdir()
    return run


@pytest.mark.parametrize("model", ["../../secret", "/etc/passwd", "..", "", "generations/../../../secret"])
def test_a_table_of_models_names_no_file_outside_the_run_folder(tmp_path, model) -> None:
    assert responses(run_folder(tmp_path, model), [model]) == ([], 0)


def test_a_table_of_models_has_no_row_without_a_name(tmp_path) -> None:
    with pytest.raises(DataError, match="has a row without model"):
        read_results(run_folder(tmp_path, None))


def test_links_out_of_a_run_folder_are_not_followed(tmp_path) -> None:
    run = run_folder(tmp_path, "useful")
    run.generations("useful").symlink_to(tmp_path / "secret.jsonl")
    run.manifest.symlink_to(tmp_path / "secret.jsonl")
    for read in (lambda: responses(run, ["useful"]), run.read_manifest):
        with pytest.raises(DataError, match="link out of its run folder"):
            read()
    run.table("models").unlink()
    pl.DataFrame({"model": ["a"]}).write_csv(tmp_path / "table.csv")
    run.table("models").symlink_to(tmp_path / "table.csv")
    with pytest.raises(DataError, match="link out of its run folder"):
        read_results(run)


def test_unfinished_files_are_private(tmp_path) -> None:
    with atomic_path(tmp_path / "file") as part:
        part.write_text("x")
        inner = [path for path in tmp_path.iterdir() if path.name != "file"]
        assert [path.stat().st_mode & 0o077 for path in inner] == [0] * len(inner)
        assert inner


def test_a_run_is_not_told_to_load_from_where_it_stands(tmp_path) -> None:
    """A module of the working folder does not take the place of an installed one."""
    (tmp_path / "yaml.py").write_text("raise SystemExit('run')")
    ended = subprocess.run(
        [Path(sys.executable).with_name("safespan"), "hypotheses"], cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
