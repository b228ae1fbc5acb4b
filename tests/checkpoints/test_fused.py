"""Experts that a file holds as Transformers has them in memory are those of a file that holds them one by one."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText

from conformance import checks
from conformance.architectures import Triple, make
from safespan.checkpoints import Checkpoint, open_checkpoint
from safespan.checkpoints.inspection import compare
from safespan.errors import CheckpointError
from safespan.projection import Family, sweep
from safespan.projection.write import write_projected
from tiny_adapter import make_adapter

KINDS = ("mixtral", "qwen3_moe", "granitemoe")


def fused(folder: Path) -> Path:
    """The same model, with the weights of its state in memory."""
    out = folder.parent / f"{folder.name}-fused"
    shutil.copytree(folder, out)
    state = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    stored = {name: tensor.contiguous() for name, tensor in state.items()}
    assert any(name.endswith("experts.gate_up_proj") for name in stored)
    save_file(stored, out / "model.safetensors", {"format": "pt"})
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_that_of_the_file_that_holds_it_alone(kind, tmp_path):
    folder = make(kind, tmp_path).aligned
    checkpoint, stored = Checkpoint(fused(folder)), load_file(folder / "model.safetensors")
    assert checkpoint.shapes == Checkpoint(folder).shapes
    for name in checkpoint.names:
        assert torch.equal(checkpoint.load(name), stored[name]), name
    assert any("experts that are stored in one tensor are seen one by one" in one for one in checkpoint.remarks)


@pytest.mark.parametrize("which", [("base",), ("aligned",), ("tuned",), ("base", "aligned", "tuned")])
def test_energies_are_those_of_models_stored_alike(which, tmp_path, monkeypatch):
    """Against LAPACK on the files that hold every expert alone."""
    triple = make("mixtral", tmp_path)
    mixed = triple._replace(**{role: fused(getattr(triple, role)) for role in which})
    monkeypatch.setattr(checks, "family", lambda _: family(mixed))
    checks.energies(triple)
    checks.overlaps(triple)
    expected, _ = sweep(family(triple), checks.GRID, 0)
    rows, _ = sweep(family(mixed), checks.GRID, 0)
    assert [row.energy_kept for row in rows] == [row.energy_kept for row in expected]


def family(triple: Triple) -> Family:
    return Family(Checkpoint(triple.base), Checkpoint(triple.aligned), {"useful": Checkpoint(triple.tuned)})


def test_a_projection_is_written_and_points_are_in_memory_whatever_the_aligned_model_holds(tmp_path):
    triple = make("qwen3_moe", tmp_path)
    mixed = triple._replace(aligned=fused(triple.aligned))
    checks.projected(mixed, tmp_path)
    (tmp_path / "scratch").mkdir()
    checks.points(mixed, tmp_path / "scratch")
    write_projected(family(triple), checks.GRID, 0, tmp_path / "expected")
    written, expected = (load_file(tmp_path / place / "model.safetensors") for place in ("projected", "expected"))
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], expected[name]) for name in written)


def test_an_adapter_of_other_weights_fits_either_form(tmp_path):
    folder = make("qwen3_moe", tmp_path).aligned
    adapter = make_adapter(folder, tmp_path / "made", r=2, target_modules=["q_proj"])
    opened, expected = (open_checkpoint(f"{base}+{adapter}") for base in (fused(folder), folder))
    assert opened.changed == expected.changed
    assert all(torch.equal(opened.load(name), expected.load(name)) for name in expected.names)


def test_a_file_that_its_configuration_does_not_describe_is_not_told_apart(tmp_path):
    """The halves of a matrix of another size are not known, and the pair is refused in one line."""
    triple = make("mixtral", tmp_path)
    other = fused(triple.aligned)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"intermediate_size": 20}))
    with pytest.raises(CheckpointError, match=r"^tensor .*experts.* is in .* but not in "):
        compare(Checkpoint(triple.base), Checkpoint(other))


@pytest.mark.parametrize("turned", [False, True])
def test_experts_that_files_hold_either_way_are_as_transformers_reads_them(turned, tmp_path):
    text = {
        "vocab_size": 40,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 24,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 12,
        "decoder_sparse_step": 1,
    }
    text |= {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}}
    vision = {"depth": 1, "num_heads": 2, "hidden_size": 16, "intermediate_size": 24, "out_hidden_size": 16}
    config = CONFIG_MAPPING["qwen3_vl_moe"](
        text_config=text, vision_config=vision | {"deepstack_visual_indexes": [0]}, tie_word_embeddings=False
    )
    AutoModelForImageTextToText.from_config(config).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    stored = {name: x.mT.contiguous() if turned and "experts" in name else x for name, x in load_file(file).items()}
    save_file(stored, file, {"format": "pt"})
    state, checkpoint = AutoModelForImageTextToText.from_pretrained(tmp_path).state_dict(), Checkpoint(tmp_path)
    experts = [name for name in state if "experts.gate_up_proj" in name or "experts.down_proj" in name]
    assert len(experts) == 4
    assert all(torch.equal(checkpoint.load(name), state[name]) for name in experts)
    assert checkpoint.transposed == 4 * turned
