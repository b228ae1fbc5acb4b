"""Training under a protected subspace: the update lies where it is kept, to rounding, in float64 NumPy."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import LoraConfig as PeftConfig
from peft import get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from oracle import exact
from safespan.checkpoints import Checkpoint, open_checkpoint
from safespan.errors import CheckpointError, ConfigError
from safespan.projection import Family
from safespan.projection.protected_file import ProtectedBases
from safespan.projection.protection import Protection, write_protection
from safespan.settings.training import LoraConfig, TrainingConfig
from safespan.subspaces import Basis, hypothesis
from safespan.training.protect import ProtectedTraining, check_not_sharded
from safespan.training.sft import fine_tune
from tiny_model import build_tiny_tokenizer, save_tiny_model

SEED = 4


def with_lora(config: TrainingConfig, **fields: object) -> TrainingConfig:
    return config.model_copy(update={"lora": LoraConfig(**{"rank": 3, "alpha": 12, **fields})})


def save_other_model(folder: Path, kind: str, seed: int) -> Path:
    """A tiny GPT-2, whose layers are stored in × out, or an untied Llama."""
    tokenizer = build_tiny_tokenizer()
    torch.manual_seed(seed)
    ends = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if kind == "gpt2":
        model = GPT2LMHeadModel(
            GPT2Config(n_positions=64, n_embd=12, n_layer=2, n_head=2, initializer_range=0.3, **ends)
        )
    else:
        sizes = {"hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = LlamaForCausalLM(LlamaConfig(initializer_range=0.3, **sizes, **ends))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def bases_of(start: Path, folder: Path, name: str = "alignment", fraction: float = 0.5, side: str = "output") -> Path:
    """Bases on a start and a base that is its own, of the same kind."""
    kind = json.loads((start / "config.json").read_text())
    if kind["model_type"] == "llama" and kind["tie_word_embeddings"]:
        base = save_tiny_model(folder / "base", seed=1)
    else:
        base = save_other_model(folder / "base", kind["model_type"], seed=1)
    family = Family(Checkpoint(base), Checkpoint(start), {})
    return write_protection(family, name, fraction, side, SEED, folder / "bases").path


def part(basis: Basis, change: np.ndarray) -> np.ndarray:
    """P of a change."""
    for columns, left in ((basis.left, True), (basis.right, False)):
        if columns is not None:
            projector = exact(columns) @ exact(columns).T
            change = projector @ change if left else change @ projector
    return change


def wrong_part(basis: Basis, change: np.ndarray, keep: str) -> np.ndarray:
    inside = part(basis, change)
    return inside if keep == "outside" else change - inside


class Layers(torch.nn.Module):
    """Weights of odd shapes: wide, tall, a stack of experts, one that is claimed by nobody, and a vector."""

    def __init__(self) -> None:
        super().__init__()
        shapes = {"wide": (5, 11), "tall": (11, 5), "stack": (3, 4, 6), "free": (7, 7), "norm": (9,)}
        for name, shape in shapes.items():
            self.register_parameter(name, torch.nn.Parameter(torch.randn(shape)))


@pytest.fixture
def layers_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Bases of each side for `Layers`: random ones, and none of one matrix and one expert."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    (tmp_path / "layers").mkdir()
    save_file(
        {name: weight.detach() for name, weight in Layers().named_parameters()}, tmp_path / "layers/model.safetensors"
    )
    family = Family(None, Checkpoint(tmp_path / "layers"), {})

    def columns(size: int, k: int, seed: int) -> torch.Tensor:
        return torch.linalg.qr(torch.randn(size, k, generator=torch.Generator().manual_seed(seed))).Q

    def claim(matrix: object) -> Basis | None:
        m, n = matrix.shape
        if matrix.name in ("free", "stack[1]"):
            return None
        left, right = columns(m, 2, m), columns(n, 2, n)
        return Basis(left if matrix.side != "input" else None, right if matrix.side != "output" else None)

    made = hypothesis("mine", claim="c", paper="p")(claim)
    monkeypatch.setattr("safespan.projection.protection.find_hypothesis", lambda name: made)
    return {
        side: write_protection(family, "mine", 1.0, side, 0, tmp_path / side).path
        for side in ("output", "input", "both")
    }


@pytest.mark.parametrize("keep", ["outside", "inside"])
@pytest.mark.parametrize("side", ["output", "input", "both"])
def test_each_step_projects_the_whole_update(layers_bases: dict[str, Path], side: str, keep: str) -> None:
    model, bases = Layers(), ProtectedBases(layers_bases[side])
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    callback = ProtectedTraining(model, Protection(bases.path, keep))
    assert not model.norm.requires_grad
    claims = {"free": [None], **{name: bases.claims(name) for name in bases.tensors}}
    for step in range(50):
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.requires_grad:
                    weight += torch.randn(weight.shape)
                    before[name] = weight.detach().clone()
        callback.on_step_end()
        for name, by_matrix in claims.items():
            triples = (
                t.detach().reshape(-1, *t.shape[-2:]) for t in (start[name], before[name], model.get_parameter(name))
            )
            for basis, first, raw, now in zip(by_matrix, *triples, strict=True):
                change = exact(raw) - exact(first)
                expected = change if basis is None else change - wrong_part(basis, change, keep)
                np.testing.assert_allclose(exact(now) - exact(first), expected, atol=2e-5)
                if basis is not None:  # no drift: as small after 50 steps as after one
                    assert np.abs(wrong_part(basis, exact(now) - exact(first), keep)).max() < 5e-6, step
    assert torch.equal(model.norm, start["norm"])


@pytest.mark.parametrize("keep", ["outside", "inside"])
@pytest.mark.parametrize("side", ["output", "input"])
def test_a_full_update_lies_where_it_is_kept(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig, side: str, keep: str
) -> None:
    path = bases_of(tiny_model_folder, tmp_path, side=side)
    record = fine_tune(tiny_model_folder, tmp_path / "out", config, SEED, protection=Protection(path, keep))
    start, end = (load_file(folder / "model.safetensors") for folder in (tiny_model_folder, tmp_path / "out"))
    assert start.keys() == end.keys()  # tied weights count once
    bases = ProtectedBases(path)
    assert {name for name, weight in start.items() if weight.ndim == 2} == set(bases.tensors)
    for name, weight in start.items():
        if weight.ndim == 1:
            assert torch.equal(weight, end[name])
            continue
        change, [basis] = exact(end[name]) - exact(weight), bases.claims(name)
        assert np.abs(change).max() > 1e-3
        assert np.abs(part(basis, change) if keep == "outside" else change - part(basis, change)).max() < 1e-6
    assert record.protection == json.loads((tmp_path / "out" / "training.json").read_text())["protection"]
    assert (record.protection["hypothesis"], record.protection["keep"], record.protection["side"]) == (
        "alignment", keep, side,
    )  # fmt: skip
    assert (record.protection["matrices"], record.protection["vectors"]) == (len(bases.tensors), "frozen")


def test_without_bases_vectors_are_frozen_and_matrices_trained_as_ever(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig
) -> None:
    assert fine_tune(tiny_model_folder, None, config, SEED).protection is None
    record = fine_tune(tiny_model_folder, tmp_path / "out", config, SEED, protection=Protection(None))
    assert record.protection == {"vectors": "frozen", "hypothesis": None}
    start, end = (load_file(folder / "model.safetensors") for folder in (tiny_model_folder, tmp_path / "out"))
    assert all(torch.equal(weight, end[name]) == (weight.ndim == 1) for name, weight in start.items())


def factors(folder: Path, adapter: Path) -> dict[str, np.ndarray]:
    """Tensor of the base -> the adapter's update, outputs × inputs, in float64, from its matrices."""
    checkpoint, stored = open_checkpoint(f"{folder}+{adapter}"), load_file(adapter / "adapter_model.safetensors")
    updates = {}
    for name in checkpoint.changed:
        module = f"base_model.model.{name.removesuffix('.weight')}"
        embedding = f"{module}.lora_embedding_A" in stored
        a, b = (
            stored[f"{module}.lora_{'embedding_' if embedding else ''}{x}{'' if embedding else '.weight'}"]
            for x in "AB"
        )
        product = exact(b) @ exact(a)
        updates[name] = product.T if embedding else product
        np.testing.assert_allclose(4 * updates[name], exact(checkpoint.update(name)), atol=1e-4)  # alpha / rank
    return updates


@pytest.mark.parametrize(
    ("side", "keep"),
    [("output", "outside"), ("input", "outside"), ("output", "inside"), ("input", "inside"), ("both", "inside")],
)
@pytest.mark.parametrize("kind", ["tiny", "gpt2", "llama"])
def test_a_lora_lies_where_it_is_kept(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig, kind: str, side: str, keep: str
) -> None:
    start = tiny_model_folder if kind == "tiny" else save_other_model(tmp_path / "start", kind, 0)
    path = bases_of(start, tmp_path, side=side)
    targets = {"llama": {"target_modules": ("embed_tokens", "q_proj", "up_proj")}}.get(kind, {})
    fine_tune(start, tmp_path / "out", with_lora(config, **targets), SEED, protection=Protection(path, keep))
    updates = factors(start, tmp_path / "out")
    assert len(updates) == {"tiny": 14, "gpt2": 8, "llama": 3}[kind]
    assert (kind == "llama") == any("embed_tokens" in name for name in updates)
    for name, change in updates.items():
        [basis] = ProtectedBases(path).claims(name)
        assert np.abs(change).max() > 1e-4, name
        assert np.abs(wrong_part(basis, change, keep)).max() < 1e-7 + 2e-6 * np.abs(change).max(), name


@pytest.mark.parametrize("keep", ["outside", "inside"])
def test_a_module_that_is_trained_whole_beside_a_lora_is_projected_whole(tmp_path: Path, keep: str) -> None:
    start = save_other_model(tmp_path / "start", "llama", 0)
    bases = ProtectedBases(bases_of(start, tmp_path))
    settings = PeftConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head", "norm"], init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(start), settings)
    with torch.no_grad():
        model.base_model.model.model.layers[0].self_attn.q_proj.lora_B.default.weight.zero_()
    head = model.base_model.model.lm_head.modules_to_save.default.weight
    before = head.detach().clone()
    callback = ProtectedTraining(model, Protection(bases.path, keep))
    assert not any(parameter.requires_grad for parameter in model.parameters() if parameter.ndim == 1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    callback.on_step_end()
    [basis] = bases.claims("lm_head.weight")
    change = exact(head.detach()) - exact(before)
    assert np.abs(change).max() > 0.1
    assert np.abs(wrong_part(basis, change, keep)).max() < 1e-5
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    [basis] = bases.claims("model.layers.0.self_attn.q_proj.weight")
    update = exact(layer.get_delta_weight("default").detach())
    assert np.abs(update).max() > 0.1
    assert np.abs(wrong_part(basis, update, keep)).max() < 1e-5


def test_a_lora_starts_where_it_is_kept(tmp_path: Path) -> None:
    """A starts at random numbers: its first gradients are those of the part that is kept."""
    start = save_other_model(tmp_path / "start", "llama", 0)
    bases = ProtectedBases(bases_of(start, tmp_path, side="input"))
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(start), PeftConfig(r=2, target_modules=["q_proj"]))
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    before = exact(layer.lora_A.default.weight.detach())
    ProtectedTraining(model, Protection(bases.path))
    [basis] = bases.claims("model.layers.0.self_attn.q_proj.weight")
    expected = before - before @ exact(basis.right) @ exact(basis.right).T
    np.testing.assert_allclose(exact(layer.lora_A.default.weight.detach()), expected, atol=1e-6)
    assert np.abs(before - expected).max() > 1e-2


def by_outputs(name: str, change: np.ndarray) -> np.ndarray:
    """A change of GPT-2 as outputs × inputs; its Conv1D stores the others."""
    return change.T if ".c_" in name else change


def test_a_full_gpt2_is_projected_on_the_inputs_of_its_matrices(tmp_path: Path, config: TrainingConfig) -> None:
    start = save_other_model(tmp_path / "start", "gpt2", 0)
    path = bases_of(start, tmp_path, side="input")
    fine_tune(start, tmp_path / "out", config, SEED, protection=Protection(path))
    before, after = (load_file(folder / "model.safetensors") for folder in (start, tmp_path / "out"))
    for name in ProtectedBases(path).tensors:
        change = by_outputs(name, exact(after[name]) - exact(before[name]))
        [basis] = ProtectedBases(path).claims(name)
        assert np.abs(change).max() > 1e-3
        assert np.abs(part(basis, change)).max() < 1e-6


def test_a_checkpoint_without_the_name_of_its_body_is_known(tmp_path: Path, config: TrainingConfig) -> None:
    """The published GPT-2 has `h.0.…`, and Transformers' model `transformer.h.0.…`."""
    start = save_other_model(tmp_path / "start", "gpt2", 0)
    GPT2LMHeadModel.from_pretrained(start).transformer.save_pretrained(start)
    family = Family(None, Checkpoint(start), {})
    path = write_protection(family, "random", 0.5, "output", 0, tmp_path / "bases").path
    assert not any(name.startswith("transformer.") for name in load_file(start / "model.safetensors"))
    assert all(name.startswith("transformer.") for name in ProtectedBases(path).tensors)
    fine_tune(start, tmp_path / "out", config, SEED, protection=Protection(path))
    before, after = (load_file(folder / "model.safetensors") for folder in (start, tmp_path / "out"))
    for name in ProtectedBases(path).tensors:
        [basis] = ProtectedBases(path).claims(name)
        change = by_outputs(name, exact(after[name]) - exact(before[name.removeprefix("transformer.")]))
        assert np.abs(part(basis, change)).max() < 1e-6


def test_a_lora_is_not_kept_outside_of_both_sides(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig
) -> None:
    path = bases_of(tiny_model_folder, tmp_path, side="both")
    with pytest.raises(ConfigError, match=r"protect: model.*proj.weight: what is left of a LoRA's B·A outside"):
        fine_tune(tiny_model_folder, tmp_path / "out", with_lora(config), SEED, protection=Protection(path))
    fields = {"hypothesis": "random", "fraction": 0.5, "side": "both"}
    with pytest.raises(ValueError, match="protect: what is left of a LoRA's B·A outside"):
        TrainingConfig.model_validate({"data": "rows.jsonl", "lora": {}, "protect": fields})
    TrainingConfig.model_validate({"data": "rows.jsonl", "lora": {}, "protect": {**fields, "keep": "inside"}})


def test_bases_of_another_model_are_refused(tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig) -> None:
    other = save_other_model(tmp_path / "other", "llama", 0)
    path = bases_of(other, tmp_path)
    with pytest.raises(CheckpointError, match=r"made for another model: its left bases of .* are \[\d+, 6\]"):
        fine_tune(tiny_model_folder, tmp_path / "out", config, SEED, protection=Protection(path))
    path = bases_of(save_other_model(tmp_path / "gpt2", "gpt2", 0), tmp_path / "g")
    with pytest.raises(
        CheckpointError, match=r"has bases of transformer\.h\.0\..*, and the model no weight of that name"
    ):
        fine_tune(tiny_model_folder, tmp_path / "out", config, SEED, protection=Protection(path))
    assert not (tmp_path / "out").exists()


def test_what_it_holds_is_said_and_checked(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bases_of(tiny_model_folder, tmp_path)
    said, asked = [], []
    monkeypatch.setattr("safespan.training.protect.note", said.append)
    monkeypatch.setattr("safespan.training.protect.check_free_memory", lambda needed, device: asked.append(needed))
    fine_tune(tiny_model_folder, None, config, SEED, protection=Protection(path))
    fine_tune(tiny_model_folder, None, with_lora(config), SEED, protection=Protection(path))
    bases = load_file(path)
    of_bases = {name: columns.nbytes for name, columns in bases.items()}
    start = load_file(tiny_model_folder / "model.safetensors")
    copies = sum(weight.nbytes for weight in start.values() if weight.ndim == 2)
    adapted = sum(size for name, size in of_bases.items() if "proj" in name)
    assert asked == [sum(of_bases.values()) + copies, adapted]
    assert said[0] == "protected subspace: 0.0 MB beside the model"


@pytest.mark.parametrize("flag", ["FSDP", "DeepSpeed"])
def test_sharded_weights_are_refused_before_anything_is_trained(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    if flag == "DeepSpeed":
        with pytest.raises(ConfigError, match="protect: DeepSpeed shards the weights"):
            check_not_sharded(SimpleNamespace(deepspeed_plugin=object()))
        return
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match="protect: FSDP shards the weights, .*: train on one GPU"):
        fine_tune(tiny_model_folder, tmp_path / "out", config, SEED, protection=Protection(None))
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
