"""LoRA adapters against peft's own merge."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from safespan.checkpoints import AdaptedCheckpoint, Checkpoint, open_checkpoint
from safespan.checkpoints.updates import update
from safespan.errors import CheckpointError
from safespan.projection import Family, sweep
from safespan.settings.analysis import ProjectionGrid
from tiny_adapter import PLAIN, make_adapter
from tiny_model import save_tiny_model

KINDS = {
    "plain": PLAIN,
    "rslora": {"r": 4, "lora_alpha": 8, "use_rslora": True, "target_modules": "all-linear"},
    "patterns": {
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj", "v_proj"],
        "rank_pattern": {"q_proj": 5},
        "alpha_pattern": {"layers.1.self_attn.v_proj": 32},
    },
    "saved": {"r": 2, "lora_alpha": 2, "target_modules": ["o_proj"], "modules_to_save": ["norm"]},
    "embedding": {"r": 2, "lora_alpha": 6, "target_modules": ["embed_tokens", "k_proj"]},
}


def untied(tied: Path, out: Path) -> Path:
    """The same model with a head of its own."""
    model = AutoModelForCausalLM.from_pretrained(tied)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone() + 0.5)
    model.config.tie_word_embeddings = False
    model.save_pretrained(out)
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_are_those_that_peft_merges(kind, tiny_model_folder, tmp_path):
    folder = untied(tiny_model_folder, tmp_path / "untied") if kind == "embedding" else tiny_model_folder
    adapter = make_adapter(folder, tmp_path, **KINDS[kind])
    adapted, merged = open_checkpoint(f"{folder}+{adapter}"), Checkpoint(tmp_path / "merged")
    base = Checkpoint(folder)
    assert adapted.names == merged.names
    assert adapted.name == f"{folder}+{adapter}"
    for name in adapted.names:
        torch.testing.assert_close(adapted.load(name), merged.load(name), atol=1e-6, rtol=0)
        difference = merged.load(name).float() - base.load(name).float()
        torch.testing.assert_close(update(name, base, adapted), difference, atol=1e-6, rtol=0)
    assert adapted.sha256() != base.sha256()


def test_a_sweep_from_the_adapter_and_from_the_merged_model(tiny_model_folder, tmp_path):
    adapter = make_adapter(tiny_model_folder, tmp_path, **KINDS["rslora"])
    base = Checkpoint(save_tiny_model(tmp_path / "base", seed=7))
    rows = [
        sweep(Family(base, Checkpoint(tiny_model_folder), {"useful": finetuned}), ProjectionGrid(), seed=0)[0]
        for finetuned in (AdaptedCheckpoint(tiny_model_folder, adapter), Checkpoint(tmp_path / "merged"))
    ]
    energies = [[row.energy_kept for row in of_one] for of_one in rows]
    assert energies[0] == pytest.approx(energies[1], abs=1e-5)
    assert len(set(energies[0])) > 5


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("use_dora", True, "DoRA"),
        ("peft_type", "IA3", "is a IA3 adapter"),
        ("bias", "all", "trains biases"),
        ("layer_replication", [[0, 2]], "replicates layers"),
        ("init_lora_weights", "pissa_niter_4", "changes its base as well"),
        ("trainable_token_indices", [3], "trains rows of the embedding"),
        ("lora_alpha", "much", "lora_alpha is not as PEFT writes it"),
    ],
)
def test_unsupported_adapters_are_refused_with_the_reason(field, value, says, tiny_model_folder, tmp_path):
    adapter = make_adapter(tiny_model_folder, tmp_path, **KINDS["plain"])
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(CheckpointError, match=says):
        AdaptedCheckpoint(tiny_model_folder, adapter)


@pytest.mark.parametrize("settings", [KINDS["embedding"], {**KINDS["plain"], "modules_to_save": ["embed_tokens"]}])
def test_an_adapter_that_changes_one_of_two_tied_weights(settings, tiny_model_folder, tmp_path):
    adapter = make_adapter(tiny_model_folder, tmp_path, **settings)
    with pytest.raises(CheckpointError, match=r"changes model\.embed_tokens\.weight alone"):
        AdaptedCheckpoint(tiny_model_folder, adapter)


def test_an_adapter_for_another_base(tiny_model_folder, tmp_path):
    adapter = make_adapter(tiny_model_folder, tmp_path, **KINDS["plain"])
    path = adapter / "adapter_model.safetensors"
    stored = load_file(path)
    save_file({key.replace("layers.1", "layers.9"): value for key, value in stored.items()}, path)
    with pytest.raises(CheckpointError, match=r"made for another base: it changes model\.layers\.9"):
        AdaptedCheckpoint(tiny_model_folder, adapter)
    save_file({key: value[:, :5].clone() if "lora_A" in key else value for key, value in stored.items()}, path)
    with pytest.raises(CheckpointError, match="made for another base: its update of"):
        AdaptedCheckpoint(tiny_model_folder, adapter)
    path.unlink()
    with pytest.raises(CheckpointError, match="only adapters in safetensors"):
        AdaptedCheckpoint(tiny_model_folder, adapter)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("settings", [{}, {"modules_to_save": ["embed_tokens", "lm_head"]}])
def test_an_adapter_on_a_resized_vocabulary(tied, settings, tiny_model_folder, tmp_path):
    folder = tiny_model_folder if tied else untied(tiny_model_folder, tmp_path / "untied")
    adapter = make_adapter(folder, tmp_path, rows=60, **PLAIN, **settings)
    rows = Checkpoint(folder).shapes["model.embed_tokens.weight"][0]
    says = rf"resized: its \S+ is \[60, 16\], that of \S+ \[{rows}, 16\]; save a copy of the base with 60 rows"
    with pytest.raises(CheckpointError, match=says):
        AdaptedCheckpoint(folder, adapter)
    if tied and settings:  # trained apart, embedding and head are not one tensor any more
        with pytest.raises(CheckpointError, match="ties to another tensor"):
            AdaptedCheckpoint(tmp_path / "resized", adapter)
        return
    adapted, merged = AdaptedCheckpoint(tmp_path / "resized", adapter), Checkpoint(tmp_path / "merged")
    assert adapted.names == merged.names
    assert all(torch.allclose(adapted.load(name), merged.load(name), atol=1e-6) for name in adapted.names)


def test_a_tensor_stored_whole_and_as_low_rank_update(tiny_model_folder, tmp_path):
    adapter = make_adapter(tiny_model_folder, tmp_path, **KINDS["plain"])
    path = adapter / "adapter_model.safetensors"
    stored = load_file(path)
    name = "model.layers.0.self_attn.q_proj.weight"
    whole = Checkpoint(tiny_model_folder).load(name)
    save_file({**stored, f"base_model.model.{name}": whole}, path)
    with pytest.raises(CheckpointError, match=rf"holds {name} whole and as B·A"):
        AdaptedCheckpoint(tiny_model_folder, adapter)


@pytest.mark.parametrize("place", ["language_model.model.", "model.language_model."])
def test_an_adapter_of_the_language_model_fits_the_wrapper_that_holds_it(place, tmp_path):
    """The adapter was trained on the text model alone; the vision tower has layers of the same names."""
    base = save_tiny_model(tmp_path / "base")
    adapter = make_adapter(base, tmp_path)
    wrapper = shutil.copytree(base, tmp_path / "wrapper")
    tensors = load_file(base / "model.safetensors")
    renamed = {name.replace("model.", place, 1): tensor for name, tensor in tensors.items()}
    tower = {
        name.replace("model.", "vision_tower.", 1): tensor + 1 for name, tensor in tensors.items() if "layers" in name
    }
    save_file(renamed | tower, wrapper / "model.safetensors", {"format": "pt"})
    plain, held = open_checkpoint(f"{base}+{adapter}"), open_checkpoint(f"{wrapper}+{adapter}")
    assert held.changed == {name.replace("model.", place, 1) for name in plain.changed}
    for name in plain.changed:
        assert torch.equal(held.update(name.replace("model.", place, 1)), plain.update(name))
