"""Penalties on the update and frozen blocks, in training: gradients against closed forms in float64 NumPy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig as PeftConfig
from peft import get_peft_model
from safetensors.torch import load_file, save_file
from test_protect import SEED, bases_of, by_outputs, factors, save_other_model, with_lora
from test_resume import kill_at
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from oracle import exact
from safespan.activations import capture_for_hypotheses
from safespan.checkpoints import Checkpoint
from safespan.errors import ConfigError
from safespan.projection import Family
from safespan.projection.protected_file import ProtectedBases
from safespan.projection.protection import Protection, write_protection, write_random_protection
from safespan.settings.training import ProtectConfig, ProtectPrompts, TrainingConfig
from safespan.subspaces import CapturedActivations
from safespan.training.protect import ProtectedTraining
from safespan.training.sft import fine_tune
from tiny_model import build_tiny_tokenizer

LAMBDA = 0.7


def penalties(start: Path, folder: Path, penalty: float = LAMBDA) -> Path:
    """AsFT's penalties on a start, with a base of its own; `bases_of` writes that base."""
    bases_of(start, folder)
    family = Family(Checkpoint(folder / "base"), Checkpoint(start), {})
    return write_protection(family, "asft", None, "output", SEED, folder / "penalties", penalty=penalty).path


def squared(bases: ProtectedBases, tensor: str, number: int = 0) -> np.ndarray:
    """(I − C)² of a matrix."""
    penalty = bases.penalties(tensor)[number]
    off = -exact(penalty.columns) @ np.diag(exact(penalty.values)) @ exact(penalty.columns).T
    off[np.diag_indices_from(off)] += 1
    return off.T @ off


class Layers(torch.nn.Module):
    """A matrix, a stack of experts and a vector."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        for name, shape in {"wide": (5, 11), "tall": (11, 5), "norm": (9,)}.items():
            self.register_parameter(name, torch.nn.Parameter(torch.randn(shape)))
        self.mlp = torch.nn.Module()
        self.mlp.experts = torch.nn.Module()
        self.mlp.experts.down_proj = torch.nn.Parameter(torch.randn(3, 4, 6))


def test_the_gradient_of_whole_matrices_is_that_of_the_formula(tmp_path: Path) -> None:
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        weights = {name: weight.detach() for name, weight in Layers(seed).named_parameters()}
        save_file(weights, tmp_path / str(seed) / "model.safetensors")
    family = Family(Checkpoint(tmp_path / "0"), Checkpoint(tmp_path / "1"), {})
    bases = write_protection(family, "asft", None, "output", 0, tmp_path / "file", penalty=LAMBDA)
    model = Layers(1)
    callback = ProtectedTraining(model, Protection(bases.path))
    start = {name: exact(weight.detach()) for name, weight in model.named_parameters()}
    with torch.no_grad():
        for weight in model.parameters():
            weight += torch.randn(weight.shape)
    model.wide.grad = torch.ones(5, 11)  # what there is stays
    callback.on_step_begin()
    for name in ("wide", "tall", "mlp.experts.down_proj"):
        change = exact(model.get_parameter(name).detach()) - start[name]
        parts = change.reshape(-1, *change.shape[-2:])
        expected = [2 * LAMBDA * squared(bases, name, number) @ part for number, part in enumerate(parts)]
        expected = np.stack(expected).reshape(change.shape) + (name == "wide")
        np.testing.assert_allclose(exact(model.get_parameter(name).grad), expected, rtol=1e-4, atol=1e-4)
    assert model.norm.grad is None
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    callback.on_step_end()
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


@pytest.mark.parametrize(("kind", "target"), [("llama", "q_proj"), ("llama", "embed_tokens"), ("gpt2", "c_fc")])
def test_the_gradient_of_a_lora_is_that_of_its_scaled_product(tmp_path: Path, kind: str, target: str) -> None:
    start = save_other_model(tmp_path / "start", kind, 0)
    bases = ProtectedBases(penalties(start, tmp_path))
    settings = PeftConfig(r=2, lora_alpha=6, target_modules=[target], init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(start), settings)
    ProtectedTraining(model, Protection(bases.path)).on_step_begin()
    body = {"llama": "model.", "gpt2": "transformer."}[kind]
    seen = 0
    for name, module in model.get_base_model().named_modules():
        if not name.endswith(target):
            continue
        seen += 1
        tensor = f"{name}.weight"
        assert tensor.startswith(body)
        if target == "embed_tokens":
            a, b = module.lora_embedding_A["default"], module.lora_embedding_B["default"]
        else:
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
        left, right = (exact(b.detach()), exact(a.detach()))
        if target == "embed_tokens":
            left, right = right.T, left.T
        middle = 2 * LAMBDA * 3**2 * squared(bases, tensor) @ left @ right  # scaling alpha / r = 3
        of_left, of_right = middle @ right.T, left.T @ middle
        if target == "embed_tokens":
            of_left, of_right = of_right.T, of_left.T
        for parameter, expected in ((b, of_left), (a, of_right)):
            np.testing.assert_allclose(exact(parameter.grad), expected, atol=2e-5 * np.abs(expected).max())
    assert seen == {"gpt2": 2}.get(kind, 1)


def test_the_penalty_counts_once_a_step_however_many_passes_it_has(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In step 1 it is zero, so that step 2 starts where plain training does, and its gradient is added to that."""
    path, seen = penalties(tiny_model_folder, tmp_path), list[dict[str, tuple[np.ndarray, np.ndarray]]]()

    def record(self: object, *arguments: object, model: torch.nn.Module, **kwargs: object) -> None:
        named = {n: (exact(w.grad), exact(w.detach())) for n, w in model.named_parameters() if w.grad is not None}
        seen.append(named)

    monkeypatch.setattr(ProtectedTraining, "on_pre_optimizer_step", record)
    start, bases = load_file(tiny_model_folder / "model.safetensors"), ProtectedBases(path)
    for batch, passes in ((4, 1), (2, 2), (1, 4)):
        fields = {"batch_size": batch, "accumulation_steps": passes, "max_steps": 2, "warmup_ratio": 0.0}
        fields["max_gradient_norm"] = 1e9
        seen.clear()
        for protection in (Protection(None), Protection(path)):
            fine_tune(tiny_model_folder, None, config.model_copy(update=fields), SEED, protection=protection)
        _, plain, _, own = seen
        assert own.keys() == set(bases.tensors)
        for name, (gradient, weight) in own.items():
            np.testing.assert_array_equal(weight, plain[name][1])
            expected = 2 * LAMBDA * squared(bases, name) @ (weight - exact(start[name]))
            scale = np.abs(expected).max()
            assert scale > 1e-3
            np.testing.assert_allclose(gradient - plain[name][0], expected, atol=1e-3 * scale + 1e-6)


def value(bases: ProtectedBases, start: dict[str, torch.Tensor], end: dict[str, torch.Tensor]) -> float:
    """Σ ‖(I − C) ΔW‖²."""
    changes = {name: exact(end[name]) - exact(start[name]) for name in bases.tensors}
    return sum(float((change * (squared(bases, name) @ change)).sum()) for name, change in changes.items())


def test_the_larger_it_is_the_less_of_the_update_lies_off_the_alignment(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig
) -> None:
    settings, values = config.model_copy(update={"max_steps": 12}), []
    start = load_file(tiny_model_folder / "model.safetensors")
    for number, penalty in enumerate((1e-3, 1.0, 1e3)):
        (tmp_path / str(number)).mkdir()
        bases = ProtectedBases(penalties(tiny_model_folder, tmp_path / str(number), penalty))
        out = tmp_path / str(number) / "out"
        record = fine_tune(tiny_model_folder, out, settings, SEED, protection=Protection(bases.path))
        values.append(value(bases, start, load_file(out / "model.safetensors")))
        held = record.protection
        assert (held["hypothesis"], held["penalty"], held["matrices"]) == ("asft", penalty, len(bases.tensors))
    assert values[0] > 1.3 * values[1] > 1.69 * values[2]


def test_a_gpt2_and_a_lora_are_trained_under_it(tmp_path: Path, config: TrainingConfig) -> None:
    start = save_other_model(tmp_path / "start", "gpt2", 0)
    bases = ProtectedBases(penalties(start, tmp_path, 1e4))
    fine_tune(start, tmp_path / "full", config, SEED, protection=Protection(bases.path))
    fine_tune(start, tmp_path / "lora", with_lora(config), SEED, protection=Protection(bases.path))
    before, after = (load_file(folder / "model.safetensors") for folder in (start, tmp_path / "full"))
    assert all(np.abs(by_outputs(n, exact(after[n]) - exact(before[n]))).max() > 0 for n in bases.tensors)
    assert all(np.abs(change).max() > 0 for change in factors(start, tmp_path / "lora").values())
    with pytest.raises(ConfigError, match="penalties is of no subspace, and has no inside"):
        fine_tune(start, None, config, SEED, protection=Protection(bases.path, "inside"))


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A Llama of six blocks."""
    tokenizer = build_tiny_tokenizer()
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 6, "num_attention_heads": 2}
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            initializer_range=0.3,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            **sizes,
        )
    )
    model.save_pretrained(tmp_path / "deep")
    tokenizer.save_pretrained(tmp_path / "deep")
    return tmp_path / "deep"


@pytest.fixture
def prompts(tmp_path: Path) -> ProtectPrompts:
    for name, words in (("useful", "a b c d e f"), ("harmful", "u v w x y z")):
        (tmp_path / f"{name}.txt").write_text("".join(f"{word} a\n" for word in words.split()))
    return ProtectPrompts(useful=str(tmp_path / "useful.txt"), harmful=str(tmp_path / "harmful.txt"))


def frozen_of(deep: Path, folder: Path) -> ProtectedBases:
    texts = {"useful": [f"{x} a" for x in "abcdef"], "harmful": [f"{x} a" for x in "uvwxyz"]}
    captured = CapturedActivations(folder / "captured")
    capture_for_hypotheses(Checkpoint(deep), texts, captured.path, refusals=("i",))
    family = Family(None, Checkpoint(deep), {}, None, captured)
    return write_protection(family, "safety-layers", 1 / 3, "output", 0, folder / "frozen")


def block(name: str) -> str:
    return name.split("layers.")[1].split(".")[0] if "layers." in name else ""


def test_frozen_blocks_stay_and_others_are_trained_in_claim_and_control(
    deep: Path, tmp_path: Path, config: TrainingConfig
) -> None:
    own = frozen_of(deep, tmp_path)
    random = write_random_protection(own.path, 5, tmp_path / "random")
    assert own.about.frozen != random.about.frozen
    start = load_file(deep / "model.safetensors")
    for number, bases in enumerate((own, random)):
        assert len(bases.about.frozen) == 2
        out = tmp_path / f"out{number}"
        record = fine_tune(deep, out, config, SEED, protection=Protection(bases.path))
        for name, weight in load_file(out / "model.safetensors").items():
            assert torch.equal(weight, start[name]) == (weight.ndim == 1 or block(name) in bases.about.frozen), name
        assert (record.protection["frozen"], record.protection["matrices"]) == (bases.about.frozen, 14)
        fine_tune(deep, tmp_path / f"lora{number}", with_lora(config), SEED, protection=Protection(bases.path))
        for name, change in factors(deep, tmp_path / f"lora{number}").items():
            assert bool(change.any()) != (block(name) in bases.about.frozen), name
    targets = "|".join(f".*layers.{number}.*q_proj" for number in own.about.frozen)
    lora = with_lora(config, target_modules=targets)
    with pytest.raises(ConfigError, match="every LoRA lies in a frozen block, and none would be trained"):
        fine_tune(deep, None, lora, SEED, protection=Protection(own.path))


@pytest.mark.long
@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("claim", ["safety-layers", "asft"])
def test_a_killed_run_goes_on_under_it_and_ends_with_the_same_bits(
    deep: Path, tmp_path: Path, config: TrainingConfig, prompts: ProtectPrompts, claim: str, lora: bool
) -> None:
    protect = ProtectConfig(hypothesis="asft", base=str(deep))
    if claim == "safety-layers":
        protect = ProtectConfig(hypothesis="safety-layers", fraction=0.5, prompts=prompts)
    settings = (with_lora(config) if lora else config).model_copy(update={"protect": protect, "save_steps": 1})
    start = deep
    if claim == "asft":  # Δ_A = 0 would do, and says less
        start = tmp_path / "moved"
        model = AutoModelForCausalLM.from_pretrained(deep)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
        model.save_pretrained(start)
        build_tiny_tokenizer().save_pretrained(start)
    capture = capture_for_hypotheses
    whole = fine_tune(start, tmp_path / "whole", settings, 3, capture=capture)
    if claim == "asft":
        kill_at(3, start, tmp_path / "out", settings)
    else:
        _interrupt(start, tmp_path / "out", settings)
    again = fine_tune(start, tmp_path / "out", settings, 3, capture=capture)
    assert again.resumed_from_step > 0
    assert again.protection == whole.protection
    [name] = {path.name for path in (tmp_path / "out").glob("*model.safetensors")}
    ends = [load_file(tmp_path / folder / name) for folder in ("whole", "out")]
    assert all(torch.equal(weight, ends[1][key]) for key, weight in ends[0].items())


def _interrupt(start: Path, out: Path, settings: TrainingConfig) -> None:
    """End a run in its third step."""
    from safespan.training.watch import Watch

    def stop(model: object, tokenizer: object, step: int, steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(start, out, settings, 3, capture=capture_for_hypotheses, watch=Watch(stop, at=(0.75,)))
