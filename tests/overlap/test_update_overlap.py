import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oracle import SHAPES, exact, mso, odd_weights, save_checkpoint, spectrum_shape
from safespan.checkpoints import Checkpoint
from safespan.errors import ConfigError
from safespan.overlap.curve import overlap_curve, random_overlap
from safespan.overlap.updates import update_overlap
from safespan.settings.analysis import UPDATE_ENERGIES
from safespan.subspaces import Spectrum, decompose

SIZES = st.integers(2, 20)


def gaussian(m, n, seed):
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed))


def checkpoint(tmp_path, name, weights, **options):
    return Checkpoint(save_checkpoint(tmp_path / name, weights, **options))


@settings(deadline=None, max_examples=40)
@given(SIZES, SIZES, SIZES, st.integers(0, 99))
def test_curve_agrees_with_lapack(m, n_x, n_y, seed):
    x, y = gaussian(m, n_x, seed), gaussian(m, n_y, seed + 100)
    for point in overlap_curve(decompose(x), decompose(y), UPDATE_ENERGIES):
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


@pytest.mark.parametrize(("m", "k_x", "k_y"), [(12, 3, 4), (12, 9, 8), (40, 20, 20), (64, 4, 1), (30, 2, 25)])
def test_chance_is_that_of_sampled_haar_subspaces(m, k_x, k_y):
    draws = 20_000
    gaussians = np.random.default_rng(0).standard_normal((draws, m, k_y))
    # By rotation invariance the fixed subspace may be that of the first coordinates.
    sampled = np.sort((np.linalg.qr(gaussians).Q[:, :k_x] ** 2).sum((1, 2)) / min(k_x, k_y))
    ranks = np.full(4, k_x), np.full(4, k_y)
    tails = np.array([0.5, 0.1, 0.05, 0.01])
    mean, deviation, p_value = random_overlap(*ranks, m, np.quantile(sampled, 1 - tails))
    assert mean[0] == max(k_x, k_y) / m
    assert sampled.mean() == pytest.approx(mean[0], abs=5 * sampled.std() / draws**0.5)
    assert sampled.std() == pytest.approx(deviation[0], rel=0.03)
    # Matched in two moments, and sampled: within a quarter where no line is among them.
    assert p_value == pytest.approx(tails, rel=0.25, abs=0.001)


@given(st.integers(2, 300), st.data())
def test_the_chance_of_a_line_is_exact(m, data):
    k, overlap = data.draw(st.integers(1, m - 1)), data.draw(st.floats(0.01, 0.99))
    expected = scipy.stats.beta.sf(overlap, k / 2, (m - k) / 2)
    for ranks in ((1, k), (k, 1)):
        _, _, found = random_overlap(*np.array(ranks)[:, None], m, np.array([overlap]))
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-12)


@given(st.integers(1, 40), st.data())
def test_the_whole_space_meets_every_subspace_for_certain(m, data):
    k = data.draw(st.integers(1, m))
    found = random_overlap(np.array([m]), np.array([k]), m, np.ones(1))
    assert [value.item() for value in found] == [1.0, 0.0, 1.0]


@settings(deadline=None, max_examples=40)
@given(SIZES, SIZES, SIZES, st.integers(0, 99))
def test_principal_angles_are_scipys(m, n_x, n_y, seed):
    x, y = (decompose(gaussian(m, n, seed + i)) for i, n in enumerate((n_x, n_y)))
    for point in overlap_curve(x, y, (0.2, 0.7, 1.0)):
        angles = np.degrees(scipy.linalg.subspace_angles(exact(x.left[:, : point.k_x]), exact(y.left[:, : point.k_y])))
        assert point.angle_min == pytest.approx(angles.min(), abs=1e-4)
        assert point.angle_median == pytest.approx(np.median(angles), abs=1e-4)


@given(st.floats(-5.5, 0))
def test_small_angles_keep_their_digits(exponent):
    angle = 10**exponent
    turned = torch.tensor([[math.cos(angle)], [math.sin(angle)], [0]], dtype=torch.float64)
    x = Spectrum(torch.eye(3)[:, :1], torch.ones(1).double())
    [point] = overlap_curve(x, Spectrum(turned.float(), torch.ones(1).double()), [1.0])
    assert math.radians(point.angle_min) == pytest.approx(angle, rel=2e-7 / angle)


def test_angles_are_left_out_where_they_cost_too_much():
    both = [Spectrum(torch.eye(600)[:, start : start + k], torch.ones(k).double()) for start, k in ((0, 257), (0, 300))]
    [point] = overlap_curve(*both, [1.0])
    assert (point.mso, math.isnan(point.angle_min), math.isnan(point.angle_median)) == (1, True, True)
    [point] = overlap_curve(both[1], Spectrum(both[0].left[:, :256], torch.ones(256).double()), [1.0])
    assert point.angle_median == pytest.approx(0, abs=1e-4)


def test_only_the_pairs_asked_for(tmp_path):
    start = checkpoint(tmp_path, "aligned", odd_weights(0))
    updates = {label: (start, checkpoint(tmp_path, label, odd_weights(i + 1))) for i, label in enumerate("xyz")}
    everything, spectra = update_overlap(updates, "tensor", (0.5,))
    asked, same_spectra = update_overlap(updates, "tensor", (0.5,), pairs=[("y", "z")])
    assert asked
    assert same_spectra == spectra
    assert asked == [row for row in everything if row["pair"] == "y-z"]


def test_every_pair_tensor_and_energy(tmp_path):
    start = checkpoint(tmp_path, "aligned", odd_weights(0, torch.bfloat16), shards=2)
    ends = {label: checkpoint(tmp_path, label, odd_weights(i + 1, torch.bfloat16)) for i, label in enumerate("xyz")}
    rows, _ = update_overlap({label: (start, end) for label, end in ends.items()}, "tensor", (0.3, 0.9))
    matrices = 4 + 3  # four 2-D tensors, one of three experts; two 1-D tensors have no subspace
    assert len(rows) == 3 * matrices * 2
    assert {row["pair"] for row in rows} == {"x-y", "x-z", "y-z"}
    for row in rows:
        name, _, expert = row["group"].removesuffix("]").partition("[")
        x, y = (exact(ends[label].load(name).float() - start.load(name).float()) for label in row["pair"].split("-"))
        if expert:
            x, y = x[int(expert)], y[int(expert)]
        assert row["mso"] == pytest.approx(mso(x, y, row["energy_fraction"]), abs=1e-4)
    places = {row["group"]: (row["layer"], row["module"]) for row in rows}
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
    first = {(row["update"], row["tensor"]): row for row in rows if row["rank"] == 1}
    assert len(first) == 2 * (4 + 3)
    for (label, tensor), row in first.items():
        name, _, expert = tensor.removesuffix("]").partition("[")
        delta = exact(ends[label].load(name) - start.load(name))
        delta = delta[int(expert)] if expert else delta
        values, energy, effective, stable = spectrum_shape(delta)
        points = [row for row in rows if (row["update"], row["tensor"]) == (label, tensor)]
        assert [point["rank"] for point in points] == list(range(1, len(values) + 1))  # so few that all are there
        assert [point["singular_value"] for point in points] == pytest.approx(values, rel=1e-6)
        assert [point["energy"] for point in points] == pytest.approx(energy, rel=1e-9)
        assert (row["effective_rank"], row["stable_rank"]) == pytest.approx((effective, stable), rel=1e-6)
        assert row["share_of_update"] == pytest.approx((delta**2).sum() / whole[label], rel=1e-6)
        assert row["n"] == min(delta.shape)


def test_no_matrix_is_decomposed_twice_for_its_spectrum(tmp_path):
    start = checkpoint(tmp_path, "aligned", odd_weights(0))
    ends = {label: checkpoint(tmp_path, label, odd_weights(i + 1)) for i, label in enumerate("xy")}
    calls = []

    def track(matrix, fraction=1.0):
        calls.append(matrix.shape)
        return decompose(matrix, fraction)

    update_overlap({label: (start, end) for label, end in ends.items()}, "tensor", (0.5,), counted)
    assert len(calls) == 2 * (4 + 3)


def test_layers_stack_tensors_of_equal_width(tmp_path):
    start = checkpoint(tmp_path, "aligned", odd_weights(0))
    ends = {label: checkpoint(tmp_path, label, odd_weights(i + 1)) for i, label in enumerate("xy")}
    rows, spectra = update_overlap({label: (start, end) for label, end in ends.items()}, "layer", (0.5,))
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
    found = next(row for row in spectra if (row["update"], row["tensor"]) == ("x", "layer 0 (12 columns)"))
    assert found["effective_rank"] == pytest.approx(spectrum_shape(exact(x))[2], rel=1e-6)
    for row in (groups["layer 0 (12 columns)"], found):
        assert (row["layer"], row["module"]) == ("layer 0", None)


def test_a_zero_update_has_no_overlap_and_no_spectrum(tmp_path):
    start = checkpoint(tmp_path, "aligned", odd_weights(0))
    end = checkpoint(tmp_path, "useful", odd_weights(1))
    rows, spectra = update_overlap({"zero": (start, start), "useful": (start, end)}, "tensor", (0.5,))
    assert {row["update"] for row in spectra} == {"useful"}
    for row in rows:
        assert all(math.isnan(row[name]) for name in ("mso", "mso_random_sd", "p_value", "angle_min", "angle_median"))
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
