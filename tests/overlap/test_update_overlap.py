import math
from itertools import combinations

import pytest
import torch

from oracle import SHAPES, exact, mso, odd_weights, save_checkpoint, spectrum_shape
from safespan.checkpoints import Checkpoint
from safespan.errors import ConfigError
from safespan.overlap.updates import update_overlap
from safespan.subspaces import decompose


def checkpoint(tmp_path, name, weights, **options):
    return Checkpoint(save_checkpoint(tmp_path / name, weights, **options))


def delta(ends, matrix):
    """The update of one matrix in float64, of one expert where its name ends with its number."""
    name, _, expert = matrix.removesuffix("]").partition("[")
    whole = exact(ends[1].load(name).float() - ends[0].load(name).float())
    return whole[int(expert)] if expert else whole


def test_an_update_and_the_same_recipe_again(tmp_path):
    start = checkpoint(tmp_path, "aligned", odd_weights(0))
    updates = {label: (start, checkpoint(tmp_path, label, odd_weights(i + 1))) for i, label in enumerate("xyz")}
    repeated = start, checkpoint(tmp_path, "repeated", odd_weights(9))
    without, spectra = update_overlap(updates, "tensor", (0.5,))
    rows, same_spectra = update_overlap(updates, "tensor", (0.5,), again={"y": repeated})
    assert [row for row in rows if not row.again] == without
    assert same_spectra == spectra
    ceiling = [row for row in rows if row.again]
    assert {row.group for row in ceiling} == {row.group for row in without}
    for row in ceiling:
        assert (row.x, row.y) == ("y", "y")
        assert row.mso == pytest.approx(
            mso(*(delta(ends, row.group) for ends in (updates["y"], repeated)), 0.5), abs=1e-4
        )


def test_every_pair_tensor_and_energy(tmp_path):
    start = checkpoint(tmp_path, "aligned", odd_weights(0, torch.bfloat16), shards=2)
    ends = {label: checkpoint(tmp_path, label, odd_weights(i + 1, torch.bfloat16)) for i, label in enumerate("xyz")}
    rows, _ = update_overlap({label: (start, end) for label, end in ends.items()}, "tensor", (0.3, 0.9))
    matrices = 4 + 3  # four 2-D tensors, one of three experts; two 1-D tensors have no subspace
    assert len(rows) == 3 * matrices * 2
    assert {(row.x, row.y, row.again) for row in rows} == {(x, y, False) for x, y in combinations("xyz", 2)}
    for row in rows:
        x, y = (delta((start, ends[label]), row.group) for label in (row.x, row.y))
        assert row.mso == pytest.approx(mso(x, y, row.energy_fraction), abs=1e-4)
    places = {row.group: (row.layer, row.module) for row in rows}
    assert places["model.layers.0.self_attn.q_proj.weight"] == ("layer 0", "q_proj")
    assert places["model.layers.10.mlp.experts.gate_up_proj[2]"] == ("layer 10", "experts.gate_up_proj")
    assert places["model.embed_tokens.weight"] == ("model.embed_tokens", "embed_tokens")


def test_the_spectrum_of_every_matrix_of_every_update(tmp_path):
    start = checkpoint(tmp_path, "aligned", odd_weights(0))
    ends = {label: checkpoint(tmp_path, label, odd_weights(i + 1)) for i, label in enumerate("xy")}
    _, rows = update_overlap({label: (start, end) for label, end in ends.items()}, "tensor", (0.5,))
    whole = {
        label: sum(float((exact(end.load(name) - start.load(name)) ** 2).sum()) for name in SHAPES)
        for label, end in ends.items()
    }
    first = {(row.update, row.tensor): row for row in rows if row.rank == 1}
    assert len(first) == 2 * (4 + 3)
    for (label, tensor), row in first.items():
        matrix = delta((start, ends[label]), tensor)
        values, energy, effective, stable = spectrum_shape(matrix)
        points = [row for row in rows if (row.update, row.tensor) == (label, tensor)]
        assert [point.rank for point in points] == list(range(1, len(values) + 1))  # so few that all are there
        assert [point.singular_value for point in points] == pytest.approx(values, rel=1e-6)
        assert [point.energy for point in points] == pytest.approx(energy, rel=1e-9)
        assert (row.effective_rank, row.stable_rank) == pytest.approx((effective, stable), rel=1e-6)
        assert row.share_of_update == pytest.approx((matrix**2).sum() / whole[label], rel=1e-6)
        assert row.n == min(matrix.shape)


def test_no_matrix_is_decomposed_twice_for_its_spectrum(tmp_path):
    start = checkpoint(tmp_path, "aligned", odd_weights(0))
    ends = {label: checkpoint(tmp_path, label, odd_weights(i + 1)) for i, label in enumerate("xy")}
    calls = []

    def noted(matrix, fraction=1.0):
        calls.append(matrix.shape)
        return decompose(matrix, fraction)

    update_overlap({label: (start, end) for label, end in ends.items()}, "tensor", (0.5,), noted)
    assert len(calls) == 2 * (4 + 3)


def test_layers_stack_tensors_of_equal_width(tmp_path):
    start = checkpoint(tmp_path, "aligned", odd_weights(0))
    ends = {label: checkpoint(tmp_path, label, odd_weights(i + 1)) for i, label in enumerate("xy")}
    rows, spectra = update_overlap({label: (start, end) for label, end in ends.items()}, "layer", (0.5,))
    groups = {row.group: row for row in rows}
    assert set(groups) == {
        "layer 0 (12 columns)",
        "layer 0 (40 columns)",
        "layer 10 (9 columns)",
        "model.embed_tokens (12 columns)",
    }
    names = sorted(n for n, s in SHAPES.items() if ".layers.0." in n and s[-1] == 12)
    x, y = (torch.cat([ends[label].load(n) - start.load(n) for n in names]) for label in "xy")
    assert groups["layer 0 (12 columns)"].mso == pytest.approx(mso(exact(x), exact(y), 0.5), abs=1e-4)
    first = next(row for row in spectra if (row.update, row.tensor) == ("x", "layer 0 (12 columns)"))
    assert first.effective_rank == pytest.approx(spectrum_shape(exact(x))[2], rel=1e-6)
    for row in (groups["layer 0 (12 columns)"], first):
        assert (row.layer, row.module) == ("layer 0", None)


def test_a_zero_update_has_no_overlap_and_no_spectrum(tmp_path):
    start = checkpoint(tmp_path, "aligned", odd_weights(0))
    end = checkpoint(tmp_path, "useful", odd_weights(1))
    rows, spectra = update_overlap({"zero": (start, start), "useful": (start, end)}, "tensor", (0.5,))
    assert {row.update for row in spectra} == {"useful"}
    for row in rows:
        assert all(
            math.isnan(getattr(row, name)) for name in ("mso", "mso_random_sd", "p_value", "angle_min", "angle_median")
        )
        assert row.k_x == 0 < row.k_y


def test_bad_requests(tmp_path):
    start = checkpoint(tmp_path, "aligned", odd_weights(0))
    pair = {"a": (start, start), "b": (start, start)}
    with pytest.raises(ConfigError, match="at least two updates"):
        update_overlap({"a": (start, start)}, "tensor")
    with pytest.raises(ConfigError, match="unknown granularity 'head'"):
        update_overlap(pair, "head")
    with pytest.raises(ConfigError, match=r"energy fraction 1.5 is outside \(0, 1\]"):
        update_overlap(pair, "tensor", (1.5,))
