import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oracle import SHAPES, exact, mso, odd_weights, save_checkpoint
from safespan.checkpoints import Checkpoint
from safespan.errors import ConfigError
from safespan.overlap import ENERGY_FRACTIONS, overlap_curve, update_overlap
from safespan.subspaces import decompose

SIZES = st.integers(2, 20)


def gaussian(m, n, seed):
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed))


def checkpoint(tmp_path, name, weights, **options):
    return Checkpoint(save_checkpoint(tmp_path / name, weights, **options))


@settings(deadline=None, max_examples=40)
@given(SIZES, SIZES, SIZES, st.integers(0, 99))
def test_curve_agrees_with_lapack(m, n_x, n_y, seed):
    x, y = gaussian(m, n_x, seed), gaussian(m, n_y, seed + 100)
    for point in overlap_curve(decompose(x), decompose(y), ENERGY_FRACTIONS):
        assert point.mso == pytest.approx(mso(exact(x), exact(y), point.energy_fraction), abs=1e-4)
        assert point.mso_random == max(point.k_x, point.k_y) / m
        assert -1e-9 <= point.mso <= 1 + 1e-9


@settings(deadline=None, max_examples=20)
@given(SIZES, SIZES, st.integers(0, 99))
def test_an_update_overlaps_itself_wholly_and_input_rotations_change_nothing(m, n, seed):
    x, y = gaussian(m, n, seed), gaussian(m, n, seed + 1)
    rotation = torch.linalg.qr(gaussian(n, n, seed + 2).double()).Q
    turned = decompose(x.double() @ rotation)
    for energy in (0.3, 0.9):
        [itself] = overlap_curve(decompose(x), turned, [energy])
        assert itself.mso == pytest.approx(1, abs=1e-6)
        [plain] = overlap_curve(decompose(x), decompose(y), [energy])
        [rotated] = overlap_curve(turned, decompose(y), [energy])
        assert plain.mso == pytest.approx(rotated.mso, abs=1e-6)


def test_independent_gaussians_overlap_by_chance():
    for point in overlap_curve(decompose(gaussian(200, 300, 0)), decompose(gaussian(200, 300, 1)), (0.2, 0.5, 0.9)):
        assert point.mso == pytest.approx(point.mso_random, abs=0.03)


def test_every_pair_tensor_and_energy(tmp_path):
    start = checkpoint(tmp_path, "aligned", odd_weights(0, torch.bfloat16), shards=2)
    ends = {label: checkpoint(tmp_path, label, odd_weights(i + 1, torch.bfloat16)) for i, label in enumerate("xyz")}
    rows = update_overlap({label: (start, end) for label, end in ends.items()}, "tensor", (0.3, 0.9))
    matrices = 4 + 3  # four 2-D tensors, one of three experts; two 1-D tensors have no subspace
    assert len(rows) == 3 * matrices * 2
    assert {row["pair"] for row in rows} == {"x-y", "x-z", "y-z"}
    for row in rows:
        name, _, expert = row["group"].removesuffix("]").partition("[")
        x, y = (exact(ends[label].load(name).float() - start.load(name).float()) for label in row["pair"].split("-"))
        if expert:
            x, y = x[int(expert)], y[int(expert)]
        assert row["mso"] == pytest.approx(mso(x, y, row["energy_fraction"]), abs=1e-4)


def test_layers_stack_tensors_of_equal_width(tmp_path):
    start = checkpoint(tmp_path, "aligned", odd_weights(0))
    ends = {label: checkpoint(tmp_path, label, odd_weights(i + 1)) for i, label in enumerate("xy")}
    rows = update_overlap({label: (start, end) for label, end in ends.items()}, "layer", (0.5,))
    groups = {row["group"]: row for row in rows}
    assert set(groups) == {
        "layer 0 (12 columns)",
        "layer 0 (40 columns)",
        "layer 10 (9 columns)",
        "model.embed_tokens (12 columns)",
    }
    names = sorted(n for n, s in SHAPES.items() if ".layers.0." in n and s[-1] == 12)
    x, y = (torch.cat([ends[label].load(n) - start.load(n) for n in names]) for label in "xy")
    assert groups["layer 0 (12 columns)"]["mso"] == pytest.approx(mso(exact(x), exact(y), 0.5), abs=1e-4)


def test_a_zero_update_has_no_overlap(tmp_path):
    start = checkpoint(tmp_path, "aligned", odd_weights(0))
    end = checkpoint(tmp_path, "useful", odd_weights(1))
    for row in update_overlap({"zero": (start, start), "useful": (start, end)}, "tensor", (0.5,)):
        assert math.isnan(row["mso"])
        assert row["k_x"] == 0 < row["k_y"]


def test_bad_requests(tmp_path):
    start = checkpoint(tmp_path, "aligned", odd_weights(0))
    pair = {"a": (start, start), "b": (start, start)}
    with pytest.raises(ConfigError, match="at least two updates"):
        update_overlap({"a": (start, start)}, "tensor")
    with pytest.raises(ConfigError, match="unknown granularity 'head'"):
        update_overlap(pair, "head")
    with pytest.raises(ConfigError, match=r"energy fraction 1.5 is outside \(0, 1\]"):
        update_overlap(pair, "tensor", (1.5,))
