"""Models that differ in vocabulary, head or predictors are compared in what they share, and that is said."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from conformance import checks
from conformance.architectures import make
from oracle import exact
from safespan.checkpoints import Checkpoint, open_checkpoint, pair_up
from safespan.checkpoints.inspection import inspect
from safespan.checkpoints.names import not_loaded
from safespan.cli import main
from safespan.errors import CheckpointError
from safespan.evaluation import SwitchedModel, model_of
from safespan.evaluation.prompting import Prompting
from safespan.models.stored_names import check_in_memory
from safespan.projection import Change, Family
from safespan.projection.write import write_projected
from safespan.settings.analysis import ProjectionGrid
from safespan.settings.evaluation import EvaluationConfig
from tiny_adapter import make_adapter
from tiny_model import save_tiny_model

EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    """A base, and an aligned model and a fine-tune with two more tokens."""
    folders = {role: save_tiny_model(tmp_path / role, seed) for seed, role in enumerate(("base", "aligned", "tuned"))}
    for role in ("aligned", "tuned"):
        model, tokenizer = (kind.from_pretrained(folders[role]) for kind in (AutoModelForCausalLM, AutoTokenizer))
        tokenizer.add_tokens(["<one>", "<two>"])
        model.resize_token_embeddings(len(tokenizer))
        model.save_pretrained(folders[role])
        tokenizer.save_pretrained(folders[role])
    return folders


def opened(models: dict[str, Path]) -> tuple[Checkpoint, ...]:
    return tuple(open_checkpoint(models[role]) for role in ("base", "aligned", "tuned"))


def test_the_rows_that_all_have_are_compared_and_the_others_stay(models, tmp_path):
    base, aligned, tuned = opened(models)
    pair_up(aligned, base, tuned)
    stored = {role: load_file(folder / "model.safetensors")[EMBEDDING] for role, folder in models.items()}
    rows = len(stored["base"])
    assert len(stored["aligned"]) == rows + 2
    family = Family(base, aligned, {"useful": tuned})
    delta = family.task_update(EMBEDDING, "useful")
    assert exact(delta).tolist() == exact(stored["tuned"][:rows] - stored["aligned"][:rows]).tolist()
    [note] = aligned.notes
    assert f"has {rows}" in note
    assert f"the first {rows} rows of embeddings and heads are compared" in note
    grid = ProjectionGrid(subspaces=("random",), methods=("opposite",), fractions=(1.0,))
    write_projected(family, grid, 0, tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")[EMBEDDING]
    assert torch.equal(written[rows:], stored["aligned"][rows:])
    assert not torch.equal(written[:rows], stored["aligned"][:rows])
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")


def test_points_in_memory_keep_the_rows_that_are_not_shared(models, tmp_path):
    base, aligned, tuned = opened(models)
    pair_up(aligned, base, tuned)
    family = Family(base, aligned, {"useful": tuned})
    changes = [Change(name, family.task_update(name, "useful"), (False, False)) for name in family.names()]
    switched = SwitchedModel(Prompting(), aligned, tmp_path)
    before, after = (load_file(models[role] / "model.safetensors")[EMBEDDING] for role in ("aligned", "tuned"))
    with switched.with_weights(changes) as point:
        table = point.open().model.get_input_embeddings().weight
        torch.testing.assert_close(table[:-2], after[:-2], atol=1e-6, rtol=0)
        assert torch.equal(table[-2:], before[-2:])


def test_other_numbers_of_tokens_can_be_refused(models, tmp_path, monkeypatch, capsys):
    base, aligned, tuned = opened(models)
    with pytest.raises(CheckpointError, match="other numbers of tokens: .*; allow it"):
        pair_up(aligned, base, tuned, vocabulary="refuse")
    words = ["sweep", "--base", models["base"], "--aligned", models["aligned"], "--finetuned", f"u={models['tuned']}"]
    for vocabulary, code in (("refuse", 2), ("shared", 0), ("some", 2)):
        out = tmp_path / f"{vocabulary}.csv"
        monkeypatch.setattr("sys.argv", ["safespan", *map(str, [*words, "--vocabulary", vocabulary, "--out", out])])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code, out.exists()) == (code, code == 0)
    assert capsys.readouterr().err.count("Traceback") == 0


def test_other_tokens_at_the_same_rows_are_refused(models):
    file = models["base"] / "tokenizer.json"
    known = json.loads(file.read_text())
    words = known["model"]["vocab"]
    words["a"], words["b"] = words["b"], words["a"]
    file.write_text(json.dumps(known))
    base, aligned, _ = opened(models)
    with pytest.raises(CheckpointError, match=r"have other tokens at the same rows: number \d+ is 'a' and 'b'"):
        pair_up(aligned, base)


def untied(folder: Path, to: Path) -> Path:
    """The same model with a head of its own."""
    shutil.copytree(folder, to)
    file = to / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"lm_head.weight": tensors[EMBEDDING] * 1.5}, file, {"format": "pt"})
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    return to


def test_a_tied_base_has_its_embedding_as_a_head_beside_an_aligned_model_with_one_of_its_own(tmp_path):
    base = open_checkpoint(save_tiny_model(tmp_path / "base", 0))
    aligned = open_checkpoint(untied(save_tiny_model(tmp_path / "tied", 1), tmp_path / "aligned"))
    pair_up(aligned, base)
    family = Family(base, aligned, {})
    assert "lm_head.weight" in family.names()
    delta = family.removable("lm_head.weight", "alignment")
    assert torch.equal(delta, aligned.load("lm_head.weight") - base.load(EMBEDDING))
    assert "counts as both" in aligned.notes[0]


def test_a_tied_aligned_model_cannot_take_the_change_of_a_head(tmp_path):
    aligned = open_checkpoint(save_tiny_model(tmp_path / "aligned", 0))
    tuned = open_checkpoint(untied(save_tiny_model(tmp_path / "tied", 1), tmp_path / "tuned"))
    with pytest.raises(CheckpointError, match="has an output head of its own, which .* ties to its embedding"):
        pair_up(aligned, tuned)


def test_predictors_of_further_tokens_are_left_out_and_written_again(tmp_path):
    folder = save_tiny_model(tmp_path / "model")
    file = folder / "model.safetensors"
    extra = {
        "mtp.layers.0.mlp.up_proj.weight": torch.randn(4, 4),
        "model.layers.2.mlp.up_proj.weight": torch.randn(4, 4),
    }
    save_file(load_file(file) | extra, file, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_nextn_predict_layers": 1}))
    checkpoint = open_checkpoint(folder)
    assert extra.keys().isdisjoint(checkpoint.shapes)
    [remark] = checkpoint.remarks
    assert "weights of multi-token prediction are left out: model.layers.2.mlp.up_proj.weight, mtp." in remark
    assert dict(checkpoint.whole([])).keys() == extra.keys()


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_energies_of_a_pair_whose_files_differ_in_names_and_constants(kind, tmp_path, monkeypatch):
    """By LAPACK, of the files as Transformers wrote them."""
    triple = make(kind, tmp_path)
    body = "transformer." if kind == "gpt2" else "model."
    renames = {
        "base": lambda name: name if name.startswith("lm_head") else name.removeprefix(body),
        "aligned": lambda name: f"module.{name}",
        "tuned": lambda name: f"_orig_mod.{name}",
    }
    copies = {role: tmp_path / f"{role}-renamed" for role in renames}
    for role, rename in renames.items():
        shutil.copytree(getattr(triple, role), copies[role])
        file = copies[role] / "model.safetensors"
        constant = {f"{body}layers.0.self_attn.rotary_emb.inv_freq": torch.full((4,), float(len(role)))}
        constant |= {f"{body}h.0.attn.bias": torch.ones(1, 1, 8, 8), f"{body}h.0.attn.masked_bias": torch.tensor(-1e4)}
        kept = load_file(file) | (constant if role == "base" else {})
        save_file({rename(name): tensor for name, tensor in kept.items()}, file, {"format": "pt"})
    base, aligned, tuned = (open_checkpoint(copies[role]) for role in renames)
    pair_up(aligned, base, tuned)
    monkeypatch.setattr(checks, "family", lambda _: Family(base, aligned, {"useful": tuned}))
    checks.energies(triple)


@pytest.mark.parametrize("role", ["base", "aligned"])
def test_blocks_that_the_configuration_does_not_count_are_left_out_as_transformers_does(role, models, tmp_path):
    folder = models[role]
    _, told = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    whole, file = Checkpoint(folder), folder / "model.safetensors"
    stored = load_file(file)
    stray = {name.replace("layers.1.", "layers.12."): x + 1 for name, x in stored.items() if "layers.1." in name}
    save_file(stored | stray, file, {"format": "pt"})
    _, read = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert set(read["unexpected_keys"]) - set(told["unexpected_keys"]) == stray.keys()
    checkpoint = open_checkpoint(folder)
    assert checkpoint.shapes == whole.shapes
    [remark] = checkpoint.remarks
    assert (
        "weights behind the last block of the configuration are left out, as Transformers does: model.layers.12."
        in remark
    )
    assert inspect(checkpoint).layers == {"layer": 2}
    pair_up(checkpoint, open_checkpoint(models["tuned"]))
    check_in_memory(folder, "it", checkpoint.stored_shapes)
    base, aligned, tuned = opened(models)
    pair_up(aligned, base, tuned)
    grid = ProjectionGrid(subspaces=("random",), methods=("opposite",), fractions=(0.5,))
    write_projected(Family(base, aligned, {"useful": tuned}), grid, 0, tmp_path / "out")
    kept = load_file(tmp_path / "out" / "model.safetensors").keys() & stray.keys()
    assert kept == (stray.keys() if role == "aligned" else set())


def test_blocks_of_a_vision_tower_are_none_behind_the_last():
    names = ["model.layers.0.up.weight", "model.vision_tower.layers.7.up.weight", "h.2.up.weight"]
    assert not_loaded(names, {"text_config": {"num_hidden_layers": 1}}) == (set(), {names[2]})
    assert not_loaded(names, {"n_layer": 3, "num_layers": 2}) == (set(), set())
    assert not_loaded(names, {}) == (set(), set())


def test_an_adapted_model_answers_with_all_its_rows_whatever_it_is_compared_with(models, tmp_path):
    whole = {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}
    adapter = make_adapter(models["aligned"], tmp_path, r=2, target_modules=["q_proj"], **whole)
    tuned = open_checkpoint(f"{models['aligned']}+{adapter}")
    expected = tuned.load(EMBEDDING)
    aligned, base = open_checkpoint(models["aligned"]), open_checkpoint(models["base"])
    pair_up(aligned, base, tuned)
    assert len(tuned.load(EMBEDDING)) < len(expected)
    prompting = Prompting(EvaluationConfig(engine={"name": "hf"}))
    with model_of(prompting, tuned, tmp_path) as model:
        torch.testing.assert_close(model.lm.model.get_input_embeddings().weight.detach(), expected)
