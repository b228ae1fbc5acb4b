"""Undefined and extreme inputs: every row of docs/numbers.md. A defined value, an empty cell, or an error message."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from oracle import odd_weights, save_checkpoint
from safespan.activations import activation_overlap, capture_classes, separation
from safespan.activations.resampling import Resampling
from safespan.checkpoints import AdaptedCheckpoint, Checkpoint
from safespan.checkpoints.updates import update
from safespan.errors import CheckpointError, DataError
from safespan.evaluation import Prompting, WeightSwitch, load_model
from safespan.evaluation.judges import judge_by_rules
from safespan.evaluation.outcomes import outcomes
from safespan.overlap.updates import update_overlap
from safespan.projection import Family, sweep, write_projected
from safespan.report.page import read_results
from safespan.results.columns import schema_of
from safespan.results.run_folder import RunFolder
from safespan.results.tables import ModelRow
from safespan.settings.analysis import ProjectionGrid
from safespan.settings.evaluation import EvaluationConfig
from tiny_model import save_tiny_model

GRID = ProjectionGrid(subspaces=("alignment",), fractions=(0.5,))
RESAMPLING = Resampling(20, 20)


@pytest.fixture
def make(tmp_path):
    def checkpoint(name: str, weights: dict[str, torch.Tensor]) -> Checkpoint:
        return Checkpoint(save_checkpoint(tmp_path / name, weights))

    return checkpoint


def scaled(weights, factor, dtype=torch.float32):
    return {name: (tensor * factor).to(dtype) for name, tensor in weights.items()}


def gaussian(rows, seed):
    return torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))


def changed(folder: Path, name: str, value: float, count: int = 1) -> Path:
    """A model with the first so many weights of a tensor replaced."""
    weights = load_file(save_tiny_model(folder) / "model.safetensors")
    weights[name].view(-1)[:count] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_finetune_identical_to_the_aligned_model_has_no_energy_to_divide(make):
    base, aligned = make("base", odd_weights(0)), make("aligned", odd_weights(1))
    rows, _ = sweep(Family(base, aligned, {"useful": aligned}), GRID, 0)
    for name in ("energy_kept", "cosine_task_projection", "cosine_task_alignment"):
        assert all(math.isnan(getattr(row, name)) for row in rows), name
    assert math.isnan(write_projected(Family(base, aligned, {"useful": aligned}), GRID.model_copy(
        update={"methods": ("parallel",)}), 0, aligned.folder.parent / "out"))  # fmt: skip
    written = Checkpoint(aligned.folder.parent / "out")
    assert all(torch.equal(written.load(name), aligned.load(name)) for name in aligned.names)


def test_an_update_of_rank_one_has_one_direction(make):
    start, step = odd_weights(0), odd_weights(2)
    thin = {n: t if t.ndim < 2 else t[..., :1] @ t[..., :1, :] for n, t in step.items()}
    aligned = {name: start[name] + thin[name] for name in start}
    tuned = {name: aligned[name] + thin[name] for name in start}
    models = make("base", start), make("aligned", aligned), make("tuned", tuned)
    rows, spectra = update_overlap({"a": models[:2], "b": models[1:]}, "tensor", (0.5, 1.0))
    # To float32's last digits: 1 − 1e-12 of the energy lies in one direction, the rest is rounding.
    half = [row for row in rows if row.energy_fraction == 0.5]
    assert {(row.k_x, row.k_y) for row in half} == {(1, 1)}
    assert all(row.mso == pytest.approx(1, abs=1e-5) for row in half)
    assert all(row.effective_rank == pytest.approx(1, abs=1e-3) for row in spectra)
    [parallel, orthogonal], _ = sweep(Family(*models[:2], {"useful": models[2]}), GRID, 0)
    assert parallel.energy_kept == pytest.approx(1, abs=1e-5)
    assert orthogonal.energy_kept == pytest.approx(0, abs=1e-5)


def test_an_update_too_large_to_square_is_said(make):
    start, end = make("base", odd_weights(0)), make("huge", scaled(odd_weights(1), 1e30))
    with pytest.raises(CheckpointError, match="too large: its squared norm overflows float32"):
        update("model.embed_tokens.weight", start, end)
    with pytest.raises(CheckpointError, match="overflows float32"):
        sweep(Family(start, end, {"useful": start}), GRID, 0)


def test_fp16_weights_at_its_edge_are_measured_exactly(make):
    edge = {name: torch.full_like(tensor, 65504.0).half() for name, tensor in odd_weights(0).items()}
    start, end = make("low", scaled(edge, -1, torch.float16)), make("high", edge)
    for name in start.names:  # 131008 is no number of fp16
        assert torch.equal(update(name, start, end), torch.full(start.shapes[name], 131008.0))


def test_what_does_not_fit_into_fp16_is_not_written(make, tmp_path):
    ones = {name: torch.ones_like(tensor) for name, tensor in odd_weights(0).items()}
    base = make("base", scaled(ones, 0, torch.float16))
    aligned = make("aligned", scaled(ones, 60000, torch.float16))
    tuned = make("tuned", scaled(ones, 50000, torch.float16))
    grid = GRID.model_copy(update={"methods": ("opposite",)})  # 60000 + 10000
    with pytest.raises(CheckpointError, match="does not fit into float16"):
        write_projected(Family(base, aligned, {"useful": tuned}), grid, 0, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_in_memory_takes_no_weight_beyond_fp16(tiny_model_folder):
    model = load_model(Checkpoint(tiny_model_folder), Prompting(EvaluationConfig(engine={"dtype": "float16"}))).model
    assert model is not None
    name, own = next(iter(model.state_dict().items()))
    own = own.clone()
    with pytest.raises(CheckpointError, match="beyond 65504"), WeightSwitch(model) as switch:
        switch.set([(name, torch.full(own.shape, 1e5))])
    assert torch.equal(model.state_dict()[name], own)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_model_with_nan_or_inf_is_not_asked(value, tmp_path):
    folder = changed(tmp_path / "bad", "model.layers.1.mlp.up_proj.weight", value)
    with pytest.raises(CheckpointError, match=r"up_proj\.weight holds NaN or Inf"):
        load_model(Checkpoint(folder))


def test_activations_that_overflow_are_said(tmp_path):
    folder = changed(tmp_path / "large", "model.layers.0.mlp.down_proj.weight", 3e38, count=300)
    with pytest.raises(CheckpointError, match=r"activations of layer \d hold NaN or Inf"):
        capture_classes(Checkpoint(folder), (["a b", "c"], ["d", "e f"]))


def test_constant_activations(recwarn):
    same, other = torch.ones(6, 8), gaussian(6, 1)
    [plain] = activation_overlap(same, same, (0.5,), resampling=RESAMPLING)
    assert (plain.k_x, plain.k_y, plain.p_value) == (1, 1, 1.0)
    assert plain.mso == pytest.approx(1)
    [centred] = activation_overlap(same, other, (0.5,), centered=True, resampling=RESAMPLING)
    assert centred.k_x == 0
    assert all(math.isnan(getattr(centred, name)) for name in ("mso", "mso_random", "mso_low", "mso_high", "p_value"))
    apart = separation(same, same)
    assert apart.folds == 0
    assert math.isnan(apart.probe_auroc)
    assert math.isnan(apart.mean_difference_ratio)


def test_one_prompt_has_no_interval_and_no_held_out_score(recwarn):
    [plain] = activation_overlap(gaussian(1, 0), gaussian(1, 1), (0.5,), resampling=RESAMPLING)
    assert (plain.k_x, plain.k_y) == (1, 1)
    assert 0 <= plain.mso <= 1
    assert all(math.isnan(getattr(plain, name)) for name in ("mso_low", "mso_high", "p_value"))
    [centred] = activation_overlap(gaussian(1, 0), gaussian(9, 1), (0.5,), centered=True, resampling=RESAMPLING)
    assert math.isnan(centred.mso)
    assert math.isnan(separation(gaussian(1, 0), gaussian(9, 1)).probe_auroc)


@pytest.mark.parametrize("response", ["", "   ", "\n\t", "…"])
def test_an_empty_response_is_neither_refusal_nor_compliance(response):
    for target in (None, "the answer"):
        judged = judge_by_rules("a request", response, target)
        assert (judged.score, judged.refused) == (2, None)


def test_rates_of_nothing_are_no_rates():
    nothing = outcomes({}, [], [], 0)
    for name in ("utility", "attack_success_rate", "asr_ci_low", "refusal_rate", "over_refusal_rate", "harmfulness"):
        assert math.isnan(getattr(nothing, name)), name
    assert nothing.n_harmful == 0


def test_an_adapter_whose_product_overflows(tiny_model_folder, tmp_path):
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    save_file({f"{key}A.weight": torch.full((2, 16), 1e25), f"{key}B.weight": torch.full((16, 2), 1e25)},
              tmp_path / "adapter_model.safetensors")  # fmt: skip
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "lora_alpha": 2}')
    adapted = AdaptedCheckpoint(tiny_model_folder, tmp_path)
    with pytest.raises(CheckpointError, match="too large for float32"):
        update("model.layers.0.self_attn.q_proj.weight", Checkpoint(tiny_model_folder), adapted)


def test_an_update_whose_squares_vanish_counts_as_none(make):
    zero = make("base", scaled(odd_weights(0), 0))
    tiny = make("aligned", scaled(odd_weights(1), 1e-30))
    rows, _ = sweep(Family(zero, zero, {"useful": tiny}), GRID, 0)
    assert all(math.isnan(row.energy_kept) for row in rows)


@pytest.mark.parametrize(("settings", "rank", "said"), [
    ('{"peft_type": "LORA"}', 0, "have no product"),
    ('{"peft_type": "LORA", "lora_alpha": NaN}', 2, "lora_alpha is not as PEFT writes it"),
    ('{"peft_type": "LORA", "lora_alpha": Infinity}', 2, "lora_alpha is not as PEFT writes it"),
    ('{"peft_type": "LORA", "alpha_pattern": {"(a+)+$": 1}}', 2, "is no name of a module"),
])  # fmt: skip
def test_an_adapter_without_rank_or_scale(settings, rank, said, tiny_model_folder, tmp_path):
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    save_file({f"{key}A.weight": torch.ones(rank, 16), f"{key}B.weight": torch.ones(16, rank)},
              tmp_path / "adapter_model.safetensors")  # fmt: skip
    (tmp_path / "adapter_config.json").write_text(settings)
    with pytest.raises(CheckpointError, match=said):
        AdaptedCheckpoint(tiny_model_folder, tmp_path)


@pytest.mark.parametrize("cell", ["NaN", "inf", "-inf"])
def test_a_table_with_nan_or_inf_is_refused(cell, tmp_path):
    run = RunFolder(tmp_path)
    run.table("models").parent.mkdir()
    names = list(schema_of(ModelRow))
    cells = {"model": "useful", "utility": cell, "valid": "true"}
    run.table("models").write_text(f"{','.join(names)}\n{','.join(cells.get(name, '') for name in names)}\n")
    with pytest.raises(DataError, match="holds NaN or Inf in column utility"):
        read_results(run)
