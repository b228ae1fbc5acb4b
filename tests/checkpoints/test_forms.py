"""Weights are seen as matrices of outputs × inputs, stacks of them, or vectors, whatever an architecture stores."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    GPT2Config,
    GptOssConfig,
    Llama4TextConfig,
    Mamba2Config,
    MixtralConfig,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.pytorch_utils import Conv1D

from safespan.checkpoints import Checkpoint, open_checkpoint
from safespan.checkpoints.forms import Form, form_of, stored_transposed
from safespan.checkpoints.names import common_names
from safespan.errors import CheckpointError
from safespan.models.loading import load_causal_lm
from safespan.projection import Family
from safespan.projection.tensor import TensorProjection, directions
from safespan.projection.write import write_projected
from safespan.settings.analysis import ProjectionGrid
from safespan.subspaces import decompose
from tiny_model import build_tiny_tokenizer

SMALL = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
EXPERTS = {**SMALL, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 24, "num_local_experts": 4}
CONFIGS = {
    "gpt2": GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32),
    "gpt_oss": GptOssConfig(**EXPERTS, num_experts_per_tok=2, layer_types=["full_attention"] * 2),
    "llama4_text": Llama4TextConfig(**EXPERTS, intermediate_size_mlp=24, num_experts_per_tok=1, moe_layers=[0, 1]),
    "mixtral": MixtralConfig(**{k: v for k, v in EXPERTS.items() if k != "head_dim"}, num_experts_per_tok=2),
    "mamba2": Mamba2Config(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_heads=4, head_dim=8, state_size=8),
}
OUTPUTS_BY_INPUTS = {
    ("gpt2", "transformer.h.0.attn.c_attn.weight"): (48, 16),
    ("gpt2", "transformer.h.0.mlp.c_proj.weight"): (16, 64),
    ("gpt2", "transformer.wte.weight"): (40, 16),
    ("gpt_oss", "model.layers.0.mlp.experts.gate_up_proj"): (4, 48, 16),
    ("gpt_oss", "model.layers.0.mlp.experts.down_proj"): (4, 16, 24),
    ("gpt_oss", "model.layers.0.mlp.experts.gate_up_proj_bias"): (192,),
    ("llama4_text", "model.layers.0.feed_forward.experts.gate_up_proj"): (4, 48, 16),
    ("llama4_text", "model.layers.0.feed_forward.experts.down_proj"): (4, 16, 24),
}


def make(kind: str, folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIGS[kind])
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model of every kind."""
    place = tmp_path_factory.mktemp("models")
    return {kind: make(kind, place / kind) for kind in CONFIGS}


@pytest.mark.parametrize(("kind", "name"), OUTPUTS_BY_INPUTS)
def test_matrices_are_outputs_by_inputs_and_go_back_as_they_were(kind, name, folders):
    checkpoint, stored = Checkpoint(folders[kind]), load_file(folders[kind] / "model.safetensors")
    seen = checkpoint.load(name)
    assert tuple(seen.shape) == checkpoint.shapes[name] == OUTPUTS_BY_INPUTS[kind, name]
    assert torch.equal(checkpoint.as_stored(name, seen), stored[name])


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_weight_that_multiplies_does_so_as_it_is_seen(kind, folders):
    """The product of the seen matrix with the inputs is what the module of Transformers gives."""
    model, checkpoint = AutoModelForCausalLM.from_pretrained(folders[kind]), Checkpoint(folders[kind])
    checked = 0
    for name, module in model.named_modules():
        if type(module) in (torch.nn.Linear, Conv1D) and f"{name}.weight" in checkpoint.shapes:
            matrix = checkpoint.load(f"{name}.weight")
            given = torch.randn(3, matrix.shape[1])
            with torch.no_grad():
                bias = 0 if module.bias is None else module.bias
                torch.testing.assert_close(module(given) - bias, given @ matrix.T, atol=1e-5, rtol=1e-5)
            checked += 1
    assert checked > 3


def energy(delta: np.ndarray, directions: np.ndarray, fraction: float) -> float:
    """‖U Uᵀ Δ‖² / ‖Δ‖² with the leading left singular vectors of another matrix, by LAPACK in float64."""
    left = np.linalg.svd(directions.astype(np.float64), full_matrices=False)[0]
    k = max(1, round(fraction * min(delta.shape)))
    inside = left[:, :k].T @ delta.astype(np.float64)
    return float((inside**2).sum() / (delta.astype(np.float64) ** 2).sum())


@pytest.mark.parametrize("kind", ["gpt2", "gpt_oss", "llama4_text"])
def test_the_energy_along_the_alignment_subspace_is_that_of_outputs(kind, tmp_path):
    base, aligned, tuned = (make(kind, tmp_path / name, seed) for seed, name in enumerate(("b", "a", "t")))
    family = Family(Checkpoint(base), Checkpoint(aligned), {"useful": Checkpoint(tuned)})
    names = [name for name in Checkpoint(aligned).names if stored_transposed(kind, name)]
    assert names
    files = [load_file(folder / "model.safetensors") for folder in (base, aligned, tuned)]
    inside = whole = 0.0
    for name in family.names():
        b, a, t = (file[name].double().numpy() for file in files)
        stacks = [(a - b, t - a)] if a.ndim == 2 else list(zip(a - b, t - a, strict=True)) if a.ndim == 3 else []
        for alignment, delta in stacks:
            if name in names:
                alignment, delta = alignment.T, delta.T
            if not name.endswith("bias"):
                total = float((delta**2).sum())
                inside, whole = inside + energy(delta, alignment, 0.25) * total, whole + total
    grid = ProjectionGrid(subspaces=("alignment",), methods=("parallel",), fractions=(0.25,))
    assert share_inside(family, grid) == pytest.approx(inside / whole, abs=1e-6)


def share_inside(family: Family, grid: ProjectionGrid) -> float:
    """The share of the energy of all matrices that lies inside."""
    inside = whole = 0.0
    for name in family.names():
        delta = family.task_update(name, "useful")
        if delta.ndim > 1:
            projection = TensorProjection(delta, directions(family.tensor(name, grid.side, 0, decompose), "alignment"))
            kept = projection.parallel(0.25)
            inside, whole = inside + float((kept.double() ** 2).sum()), whole + float((delta.double() ** 2).sum())
    return inside / whole


@pytest.mark.parametrize(
    ("name", "shape", "seen"),
    [
        ("backbone.layers.0.mixer.conv1d.weight", (64, 1, 4), (256,)),
        ("model.layers.0.mlp.experts.down_proj_bias", (4, 16), (64,)),
        ("backbone.layers.0.mixer.A_log", (64, 8), (512,)),
        ("model.layers.0.mlp.experts.down_proj", (4, 16, 24), (4, 16, 24)),
        ("model.layers.0.block_sparse_moe.input_linear.weight", (4, 48, 16), (4, 48, 16)),
        ("model.norm.weight", (16,), (16,)),
        ("model.scale", (), (1,)),
    ],
)
def test_only_stacks_of_experts_have_three_dimensions(name, shape, seen):
    form = form_of("some", name, shape)
    assert form == Form(shape, seen, False)
    tensor = torch.randn(shape)
    assert torch.equal(form.write(form.read(tensor)), tensor)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.vision_tower.embeddings.patch_embedding.weight", (8, 3, 4, 4)),
        ("visual.patch_embed.proj.weight", (8, 3, 2, 4, 4)),
        ("transformer.h.0.attn.bias", (1, 1, 32, 32)),
        ("transformer.h.0.attn.masked_bias", ()),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", (4,)),
    ],
)
def test_kernels_over_images_and_constants_are_left_out(name, shape):
    assert form_of("some", name, shape) is None


def add(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    file = folder / "model.safetensors"
    save_file(load_file(file) | tensors, file, {"format": "pt"})


def test_what_is_left_out_is_said_and_is_written_again(tmp_path):
    kernel = {"visual.patch_embed.weight": torch.randn(4, 3, 2, 2), "visual.position_ids": torch.arange(5)}
    folders = {name: make("gpt2", tmp_path / name, seed) for seed, name in enumerate(("base", "aligned", "tuned"))}
    for folder in folders.values():
        add(folder, kernel)
    base, aligned, tuned = (open_checkpoint(folder) for folder in folders.values())
    [remark] = aligned.remarks
    assert "weights with more than three dimensions are left out" in remark
    assert remark.endswith(": visual.patch_embed.weight")
    grid = ProjectionGrid(subspaces=("alignment",), methods=("parallel",), fractions=(1.0,))
    write_projected(Family(base, aligned, {"useful": tuned}), grid, 0, tmp_path / "out")
    written, before = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", folders["aligned"]))
    assert all(torch.equal(written[name], kernel[name]) for name in kernel)
    assert {name: tensor.shape for name, tensor in written.items()} == {n: x.shape for n, x in before.items()}
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")


def test_a_projection_on_everything_is_the_fine_tune(tmp_path):
    """At f = 1 all of the update is kept: of square and of transposed matrices alike."""
    base, aligned, tuned = (make("gpt2", tmp_path / name, seed) for seed, name in enumerate(("b", "a", "t")))
    grid = ProjectionGrid(subspaces=("alignment",), methods=("parallel",), fractions=(1.0,))
    family = Family(Checkpoint(base), Checkpoint(aligned), {"useful": Checkpoint(tuned)})
    write_projected(family, grid, 0, tmp_path / "out")
    written, expected, start = (load_file(f / "model.safetensors") for f in (tmp_path / "out", tuned, aligned))
    name = "transformer.h.0.attn.c_proj.weight"
    torch.testing.assert_close(written[name], expected[name], atol=1e-5, rtol=0)
    assert not torch.allclose(start[name], expected[name], atol=1e-3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, r"\(gptq\)"),
        (torch.int32, r"of dtype I32\)"),
        (torch.uint8, r"of dtype U8\)"),
        (torch.float8_e4m3fn, r"of dtype F8_E4M3\)"),
    ],
)
def test_quantised_weights_are_refused_before_they_are_read(change, says, tmp_path):
    folders = [make("gpt2", tmp_path / name) for name in ("base", "aligned")]
    if isinstance(change, dict):
        config = json.loads((folders[1] / "config.json").read_text())
        (folders[1] / "config.json").write_text(json.dumps(config | change))
    else:
        add(folders[1], {"transformer.h.0.mlp.c_fc.weight": torch.ones(16, 64).to(change)})
    family = Family(Checkpoint(folders[0]), Checkpoint(folders[1]), {})
    with pytest.raises(CheckpointError, match=rf"aligned holds quantised weights .*{says}, whose numbers are codes"):
        family.names()
    with pytest.raises(CheckpointError, match="quantised"):
        Checkpoint(folders[1]).load("transformer.wte.weight")


STORED_OTHERWISE = {"llama4", "llama4_text"}
"""Transposed experts that their class does not say to be so; their shapes do."""


@pytest.mark.long
@pytest.mark.parametrize("model_type", [kind for kind in CONFIG_MAPPING if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES])
def test_the_table_says_what_transformers_modules_do(model_type):
    """Of every causal model that Transformers makes from its own default configuration, on no device."""
    try:
        config = CONFIG_MAPPING[model_type]()
        config.get_text_config().num_hidden_layers = 2
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # Transformers' own defaults do not make a model
        pytest.skip(f"no model of the default configuration: {type(error).__name__}")
    for module_name, module in model.named_modules():
        for name, weight in module.named_parameters(recurse=False):
            transposed = isinstance(module, Conv1D) or (weight.ndim == 3 and getattr(module, "is_transposed", False))
            # Of Transformers before 5.18: inputs × outputs, with no mark of it.
            transposed |= type(module).__name__ == "AriaGroupedExpertsGemm"
            if model_type in STORED_OTHERWISE and weight.ndim == 3:
                width = config.get_text_config().hidden_size
                transposed = weight.shape[{"gate_up_proj": 1, "down_proj": 2}[name]] == width
            form = form_of(model_type, f"{module_name}.{name}", tuple(weight.shape))
            if weight.ndim > 1 and form and len(form.seen) > 1:
                assert form.transposed == transposed, (module_name, name, weight.shape)


WRAPPED = r"\1.\2._fsdp_wrapped_module._checkpoint_wrapped_module."


def renamed(folder: Path, rename) -> Path:
    file = folder / "model.safetensors"
    save_file({rename(name): tensor for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    return folder


@pytest.mark.parametrize("kind", ["gpt2", "gpt_oss", "mamba2"])
@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: f"_fsdp_wrapped_module.{re.sub(r'(layers|h)[.]([0-9]+)[.]', WRAPPED, name)}",
        lambda name: name if name.startswith("lm_head") else name.partition(".")[2],
    ],
)
def test_a_model_has_the_same_names_whoever_saved_it(kind, rename, tmp_path):
    plain, other = make(kind, tmp_path / "plain"), renamed(make(kind, tmp_path / "other"), rename)
    assert Checkpoint(other).shapes == Checkpoint(plain).shapes
    for name in Checkpoint(plain).names:
        assert torch.equal(Checkpoint(other).load(name), Checkpoint(plain).load(name))


def test_names_that_two_wrappers_would_make_one_are_left_as_they_are():
    both = ["module.layers.0.weight", "layers.0.weight"]
    assert common_names(both, "some") == {name: name for name in both}


@pytest.mark.parametrize(
    ("says", "equal", "tied"),
    [(None, True, True), (None, False, False), (True, True, True), (True, False, False), (False, True, False)],
)
def test_a_head_that_is_the_embedding_counts_once_whatever_the_configuration_leaves_out(says, equal, tied, tmp_path):
    folder = make("gpt2", tmp_path / "model")
    table = load_file(folder / "model.safetensors")["transformer.wte.weight"]
    add(folder, {"lm_head.weight": table.clone() if equal else table + 1})
    config = json.loads((folder / "config.json").read_text())
    config.pop("tie_word_embeddings", None)
    (folder / "config.json").write_text(json.dumps(config | ({} if says is None else {"tie_word_embeddings": says})))
    checkpoint = Checkpoint(folder)
    assert checkpoint.tied == tied
    assert ("lm_head.weight" in checkpoint.shapes) == (not tied)


def test_a_head_of_its_own_answers_though_the_configuration_ties_it(tmp_path):
    """As Transformers reads it: logits of the stored head, in a projection too."""
    folders = [make("gpt2", tmp_path / name, seed) for seed, name in enumerate(("base", "aligned"))]
    for folder in folders:
        table = load_file(folder / "model.safetensors")["transformer.wte.weight"]
        add(folder, {"lm_head.weight": table.flip(0)})
    assert "lm_head.weight" in Checkpoint(folders[1]).shapes
    build_tiny_tokenizer().save_pretrained(folders[1])
    model, _ = load_causal_lm(folders[1])
    model.tie_weights()
    assert torch.equal(model.get_output_embeddings().weight, model.get_input_embeddings().weight.flip(0))
    family = Family(Checkpoint(folders[0]), Checkpoint(folders[1]), {"useful": Checkpoint(folders[1])})
    grid = ProjectionGrid(subspaces=("alignment",), methods=("parallel",), fractions=(0.5,))
    write_projected(family, grid, 0, tmp_path / "out")
    ids = torch.tensor([[5, 6, 7]])
    one, other = (AutoModelForCausalLM.from_pretrained(place)(ids).logits for place in (folders[1], tmp_path / "out"))
    torch.testing.assert_close(one, other)


def test_an_architecture_whose_form_is_not_known_is_refused(tmp_path):
    folder = make("gpt2", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "dbrx"}))
    with pytest.raises(CheckpointError, match="dbrx stores its experts in a form that is not known here"):
        Family(Checkpoint(folder), Checkpoint(folder), {}).names()
