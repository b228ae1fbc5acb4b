"""`safespan train`: recipes, settings, what is printed and refused; several processes; the example configurations."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file
from typer.testing import CliRunner

from safespan.cli import app
from safespan.errors import SafespanError
from safespan.files.atomic import write_jsonl
from tiny_model import save_tiny_model

ROWS = [{"prompt": f"a b {x}", "response": f"{x} c"} for x in "defghijk"]


@pytest.fixture
def data(tmp_path: Path) -> str:
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    return str(tmp_path / "rows.jsonl")


def train(recipe: str, model: Path, out: Path, *settings: str) -> str:
    options = [option for setting in settings for option in ("--set", setting)]
    result = CliRunner().invoke(app, ["train", recipe, "--model", str(model), "--out", str(out), *options])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def test_a_recipe_by_name_and_from_a_file(tiny_model_folder: Path, tmp_path: Path, data: str) -> None:
    short = ("accumulation_steps=1", "compute=fp32", "max_length=10", "max_steps=3")
    printed = train("useful", tiny_model_folder, tmp_path / "named", f"data.file={data}", "data.rows=6", *short)
    steps, loss, model = printed.splitlines()
    assert (steps, model) == ("3 steps; 6 rows", f"model: {tmp_path / 'named'}")
    assert loss.startswith("final loss ")
    (tmp_path / "r.yaml").write_text(
        f"data: {data}\ncontaminate_with: {{file: {data}, rows: 4}}\nmax_steps: 2\ncontamination_percent: 50\n"
    )
    assert train(str(tmp_path / "r.yaml"), tiny_model_folder, tmp_path / "file", *short).startswith(
        "3 steps; 12 rows\n"
    )
    assert (tmp_path / "file" / "model.safetensors").exists()


def test_what_is_refused(tiny_model_folder: Path, tmp_path: Path, data: str) -> None:
    for recipe, settings, says in (
        ("useful", ["speed=1"], "--set: unknown field 'speed'"),
        ("useful", ["data.file=x", "data.dataset=y"], "one of them only"),
        ("other", [], "cannot read other"),
        ("useful", [f"data.file={data}", "data.rows=9"], "9 rows asked for, 8 there"),
    ):
        with pytest.raises(SafespanError, match=says):
            train(recipe, tiny_model_folder, tmp_path / "out", *settings)
    (tmp_path / "mine").mkdir()
    with pytest.raises(SafespanError, match="exists and is no trained model"):
        train("useful", tiny_model_folder, tmp_path / "mine", f"data.file={data}")


def test_two_processes_write_one_model_that_equals_one_process(
    tiny_model_folder: Path, tmp_path: Path, data: str
) -> None:
    common = (f"data.file={data}", "max_steps=2", "batch_size=2", "compute=fp32", "learning_rate=0.01")
    train("useful", tiny_model_folder, tmp_path / "one", *common, "accumulation_steps=2")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "safespan", "train"]
    options = [option for setting in (*common, "accumulation_steps=1", "save_steps=1") for option in ("--set", setting)]
    model = ["useful", "--model", str(tiny_model_folder), "--out", str(tmp_path / "two")]
    ended = subprocess.run([*launch, *model, *options], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("2 steps; 8 rows\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "rows.jsonl", "two"]
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == sorted(p.name for p in (tmp_path / "two").iterdir())
    assert '"processes": 2' in (tmp_path / "two" / "training.json").read_text()
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    start = load_file(tiny_model_folder / "model.safetensors")
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-5, rtol=0)
        assert not torch.equal(one[name], start[name])


@pytest.mark.parametrize("name", ["fsdp", "deepspeed"])
def test_the_example_configurations_are_accelerates(name: str) -> None:
    config = load_config_from_file(str(Path(__file__).parents[2] / "examples" / "accelerate" / f"{name}.yaml"))
    assert config.distributed_type == name.upper()
    assert config.mixed_precision == "no"  # the recipe's `compute` decides


def test_a_model_is_trained_under_a_protected_subspace(tiny_model_folder: Path, tmp_path: Path, data: str) -> None:
    base = save_tiny_model(tmp_path / "base", seed=1)
    short = ("accumulation_steps=1", "compute=fp32", "max_steps=2", f"data.file={data}", "learning_rate=0.01")
    protect = ("protect.hypothesis=alignment", "protect.fraction=0.5", f"protect.base={base}")
    printed = train("useful", tiny_model_folder, tmp_path / "out", *short, *protect)
    assert "protected: alignment, kept outside in 15 matrices\n" in printed
    start, end = (load_file(folder / "model.safetensors") for folder in (tiny_model_folder, tmp_path / "out"))
    name = "model.layers.0.self_attn.q_proj.weight"
    update = start[name].double() - load_file(base / "model.safetensors")[name].double()
    left, _, _ = torch.linalg.svd(update)
    change = end[name].double() - start[name].double()
    assert change.abs().max() > 1e-3
    assert (left[:, :8].T @ change).abs().max() < 1e-6
    with pytest.raises(SafespanError, match="protecting 'alignment' needs a base model.*: --set protect.base"):
        train("useful", tiny_model_folder, tmp_path / "none", *short, *protect[:2])
    assert not (tmp_path / "none").exists()


@pytest.mark.long
def test_a_model_is_trained_with_frozen_blocks_and_under_a_penalty(
    tiny_model_folder: Path, tmp_path: Path, data: str
) -> None:
    base, short = save_tiny_model(tmp_path / "base", seed=1), (f"data.file={data}", "max_steps=2", "compute=fp32")
    prompts = "protect.prompts={useful: %s, harmful: %s}"
    for name, words in (("useful", "abcdef"), ("harmful", "uvwxyz")):
        (tmp_path / f"{name}.txt").write_text("".join(f"{word} a\n" for word in words))
    texts = prompts % (tmp_path / "useful.txt", tmp_path / "harmful.txt")
    half = "protect.fraction=0.5"
    penalty = ("protect.hypothesis=asft", f"protect.base={base}", "protect.penalty=3")
    blocks, inputs = (("protect.hypothesis=safety-layers", half, texts), ("protect.hypothesis=guardspace", half, texts))
    for number, (protect, says) in enumerate(
        (
            (penalty, "protected: asft, penalty λ = 3 on 15 matrices\n"),
            (blocks, " (from 0) frozen, 7 matrices\n"),
            (inputs, "protected: guardspace, kept outside in 14 matrices\n"),
        )
    ):
        assert says in train("useful", tiny_model_folder, tmp_path / f"out{number}", *short, *protect)
    for protect, says in (
        ((*penalty, half), "fraction: 'asft' is a penalty, which has none"),
        (blocks[:1], "protecting 'safety-layers' needs useful and harmful prompts"),
        ((blocks[0], texts), "protecting 'safety-layers' needs the share of the blocks"),
        ((*inputs, "protect.penalty=1"), "penalty: 'guardspace' is of kind subspace"),
    ):
        with pytest.raises(SafespanError, match=says):
            train("useful", tiny_model_folder, tmp_path / "none", *short, *protect)
