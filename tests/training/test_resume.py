"""A training run that is killed goes on from its last whole checkpoint, and ends as if nothing had happened."""

import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from safespan.checkpoints import Checkpoint
from safespan.errors import ConfigError
from safespan.files.atomic import write_jsonl
from safespan.files.locks import exclusive_lock
from safespan.projection import Family
from safespan.projection.protection import Protection, write_protection
from safespan.settings.data import TrainingData
from safespan.settings.training import LoraConfig, ProtectConfig, TrainingConfig
from safespan.training.sft import fine_tune

KILLED = """
import os, signal, sys
import torch
from pathlib import Path
from contextlib import nullcontext
from safespan.training import sft
from safespan.settings.training import TrainingConfig
torch.set_num_threads(1)
start, out, config, at = sys.argv[1:]
def die(done, total):
    if done == int(at):
        os.kill(os.getpid(), signal.SIGKILL)
sft.progress_task = lambda name: nullcontext(die)
sft.fine_tune(start, Path(out), TrainingConfig.model_validate_json(config), 3)
"""


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    write_jsonl(tmp_path / "rows.jsonl", [{"prompt": f"a b {x}", "response": f"{x} c"} for x in "defghijklmno"])
    return TrainingConfig(
        data=TrainingData(file=str(tmp_path / "rows.jsonl")),
        # more steps than one epoch has, so that the order of a second epoch has to be restored
        max_steps=8,
        batch_size=2,
        accumulation_steps=1,
        learning_rate=1e-2,
        compute="fp32",
        lora=LoraConfig(rank=2, dropout=0.5),
        save_steps=2,
    )


def kill_at(step: int, start: Path, out: Path, config: TrainingConfig) -> Path:
    """Kill a run in a step's end; return the folder it worked in."""
    arguments = [str(start), str(out), config.model_dump_json(), str(step)]
    ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True)
    assert ended.returncode == -9, ended.stderr
    assert not out.exists()
    return out.with_name(f".{out.name}.training")


def test_a_killed_run_goes_on_and_ends_with_the_same_bits(
    tiny_model_folder: Path,
    tmp_path: Path,
    config: TrainingConfig,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = kill_at(7, tiny_model_folder, tmp_path / "out", config)
    assert sorted(path.name for path in left.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]
    # what a kill in the middle of writing leaves
    shutil.copytree(left / "checkpoint-6", left / "checkpoint-8")
    (left / "checkpoint-8" / "complete").unlink()
    for name in ("optimizer.pt", "trainer_state.json"):
        (left / "checkpoint-8" / name).write_bytes((left / "checkpoint-8" / name).read_bytes()[:50])
    other = tmp_path / "elsewhere" / ".out.training"
    shutil.copytree(left, other)
    steps: list[int] = []
    with monkeypatch.context() as watched:
        watched.setattr(
            "safespan.training.sft.progress_task", lambda name: nullcontext(lambda done, total: steps.append(done))
        )
        record = fine_tune(tiny_model_folder, tmp_path / "out", config, 3)
    assert steps == [6, 7, 8]
    assert (record.steps, record.resumed_from_step) == (8, 6)
    assert not left.exists()
    undisturbed = fine_tune(tiny_model_folder, tmp_path / "whole", config, 3)
    assert (undisturbed.steps, undisturbed.resumed_from_step) == (8, 0)
    assert undisturbed.final_loss == pytest.approx(record.final_loss)
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("out", "whole")]
    assert weights[0] == weights[1]
    # another seed is another run
    assert "safespan" not in caplog.text
    assert fine_tune(tiny_model_folder, other.parent / "out", config, 4).resumed_from_step == 0
    assert "starts anew" in caplog.text
    assert not other.exists()


def test_an_interrupted_full_run_goes_on_even_when_only_the_writing_is_left(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = config.model_copy(update={"lora": None})
    done: list[int] = []

    def step(number: int, total: int) -> None:
        done.append(number)
        if done == [0, 1, 2, 3, 4, 5]:
            raise KeyboardInterrupt

    monkeypatch.setattr("safespan.training.sft.progress_task", lambda name: nullcontext(step))
    with pytest.raises(KeyboardInterrupt):
        fine_tune(tiny_model_folder, tmp_path / "out", full, 3)
    with monkeypatch.context() as broken:
        broken.setattr("safespan.training.sft._write", raise_no_space)
        with pytest.raises(OSError, match="no space"):
            fine_tune(tiny_model_folder, tmp_path / "out", full, 3)
    assert done == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8]
    record = fine_tune(tiny_model_folder, tmp_path / "out", full, 3)
    assert done[11:] == [6, 7, 8]
    assert (record.steps, record.resumed_from_step) == (8, 6)
    monkeypatch.undo()
    whole = fine_tune(tiny_model_folder, tmp_path / "whole", full, 3)
    assert record.final_loss == pytest.approx(whole.final_loss)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "whole")]
    assert weights[0] == weights[1]


def raise_no_space(*arguments: object) -> None:
    raise OSError("no space left on device")


def test_an_error_leaves_checkpoints_only_where_they_are_asked_for(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("safespan.training.sft.progress_task", lambda name: nullcontext(stop))
    for save_steps, left in ((None, []), (2, [".out.training"])):
        changed = config.model_copy(update={"save_steps": save_steps})
        with pytest.raises(KeyboardInterrupt):
            fine_tune(tiny_model_folder, tmp_path / "runs" / "out", changed, 3)
        assert [path.name for path in (tmp_path / "runs").iterdir()] == left


@pytest.mark.parametrize(
    "moment", ["files.locks.make_folder", "files.locks.clear_leftovers", "training.resume._prepare"]
)
def test_a_signal_before_the_first_step_leaves_no_folder_of_a_run_that_cannot_go_on(
    moment: str, tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, name = f"safespan.{moment}".rpartition(".")
    function, working = getattr(sys.modules[module], name), tmp_path / "runs" / ".out.training"

    def interrupted(*arguments: object) -> None:
        function(*arguments)
        assert working.exists()
        raise SystemExit(143)

    monkeypatch.setattr(f"{module}.{name}", interrupted)
    with pytest.raises(SystemExit):
        fine_tune(tiny_model_folder, tmp_path / "runs" / "out", config.model_copy(update={"save_steps": None}), 3)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_run_killed_while_its_checkpoints_are_removed_does_not_go_on_from_half_of_one(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree

    def stop_half_way(folder: Path, **settings: bool) -> None:
        if not str(folder).endswith(".training"):
            return remove(folder, **settings)
        for part in folder.rglob("optimizer.pt"):
            part.unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(shutil, "rmtree", stop_half_way)
        with pytest.raises(KeyboardInterrupt):
            fine_tune(tiny_model_folder, tmp_path / "out", config, 3)
    assert list((tmp_path / ".out.training").glob("checkpoint-*"))
    assert fine_tune(tiny_model_folder, tmp_path / "out", config, 3).resumed_from_step == 0
    fine_tune(tiny_model_folder, tmp_path / "whole", config, 3)
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("out", "whole")]
    assert weights[0] == weights[1]


def test_two_runs_do_not_train_into_one_folder(tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig) -> None:
    working = tmp_path / ".out.training"
    with exclusive_lock(working), pytest.raises(ConfigError, match=r"\.out\.training is in use by process \d+ on"):
        fine_tune(tiny_model_folder, tmp_path / "out", config, 3)
    assert [path.name for path in working.iterdir()] == [".lock"]


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2, dropout=0.5)])
def test_a_protected_run_goes_on_from_its_own_start_and_bases(
    tiny_model_folder: Path,
    tmp_path: Path,
    config: TrainingConfig,
    lora: LoraConfig | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    monkeypatch.setattr(
        "safespan.training.bases.write_protection", lambda *given: made.append(write_protection(*given))
    )
    protect = ProtectConfig(hypothesis="random", fraction=0.5, side="input")
    protected = config.model_copy(update={"lora": lora, "protect": protect})

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("safespan.training.sft.progress_task", lambda name: nullcontext(stop))
        with pytest.raises(KeyboardInterrupt):
            fine_tune(tiny_model_folder, tmp_path / "out", protected, 3)
    shutil.copytree(tmp_path / ".out.training", tmp_path / ".other.training")
    record = fine_tune(tiny_model_folder, tmp_path / "out", protected, 3)
    assert (record.resumed_from_step, len(made)) == (4, 1)
    whole = fine_tune(tiny_model_folder, tmp_path / "whole", protected, 3)
    assert (record.protection, len(made)) == (whole.protection, 2)
    file = "adapter_model.safetensors" if lora else "model.safetensors"
    weights = [(tmp_path / name / file).read_bytes() for name in ("out", "whole")]
    assert weights[0] == weights[1]
    # Other bases are another run.
    other = protected.model_copy(update={"protect": protect.model_copy(update={"keep": "inside"})})
    assert fine_tune(tiny_model_folder, tmp_path / "other", other, 3).resumed_from_step == 0
    assert len(made) == 3


def test_bases_that_are_given_are_part_of_what_a_run_is(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = Family(None, Checkpoint(tiny_model_folder), {})
    paths = [write_protection(family, "random", 0.5, "output", seed, tmp_path / f"{seed}").path for seed in (0, 1)]
    protections = [Protection(paths[0]), Protection(paths[0], "inside"), Protection(paths[1]), Protection(None), None]

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("safespan.training.sft.progress_task", lambda name: nullcontext(stop))
        with pytest.raises(KeyboardInterrupt):
            fine_tune(tiny_model_folder, tmp_path / "out", config, 3, protection=protections[0])
    for number, protection in enumerate(protections):
        shutil.copytree(tmp_path / ".out.training", tmp_path / f".{number}-out.training")
        record = fine_tune(tiny_model_folder, tmp_path / f"{number}-out", config, 3, protection=protection)
        assert record.resumed_from_step == (4 if number == 0 else 0)
