import math
from itertools import product
from pathlib import Path

import torch

from safespan.activations import (
    Resampling,
    activation_overlap,
    capture,
    capture_classes,
    overlap_by_layer,
    separation,
    separation_by_layer,
)
from safespan.checkpoints import Checkpoint
from safespan.models.loading import load_causal_lm
from safespan.results import columns_of
from safespan.results.tables import ActivationPoint, ActivationRow, LayerSeparation, SeparationRow
from tiny_adapter import make_stray


def test_rows_of_every_layer_and_centering(tiny_model_folder: Path) -> None:
    prompts = ["a b", "c d e", "f"], ["g h", "i", "j k l", "m"]
    classes = capture_classes(Checkpoint(tiny_model_folder), prompts)
    rows = overlap_by_layer(*classes, energies=[0.2, 0.6])
    keys = [(row.layer, row.centered, row.energy_fraction) for row in rows]
    assert keys == [(layer, centered, eta) for centered, layer, eta in product((False, True), (1, 2), (0.2, 0.6))]
    assert list(columns_of(ActivationRow)) == ["model", *vars(rows[0])]
    assert {(row.x, row.y) for row in rows} == {("useful", "harmful")}
    states = [capture(*load_causal_lm(tiny_model_folder), texts)[2] for texts in prompts]
    assert all(map(torch.equal, (classes[0][2], classes[1][2]), states))
    of_the_point = ActivationPoint(**{name: getattr(rows[-1], name) for name in columns_of(ActivationPoint)})
    assert without_nan(of_the_point) == without_nan(activation_overlap(*states, [0.6], centered=True)[0])
    assert list(capture_classes(Checkpoint(tiny_model_folder), prompts, depth="0.4:0.6")[0]) == [1]


def test_an_adapter_beside_the_weights_is_not_applied(tiny_model_folder: Path, tmp_path: Path) -> None:
    stray, merged = (
        capture_classes(Checkpoint(folder), (["a b"], ["c d e"])) for folder in make_stray(tiny_model_folder, tmp_path)
    )
    assert all(torch.equal(x[layer], y[layer]) for x, y in zip(stray, merged, strict=True) for layer in x)


def test_halves_of_a_class_are_compared_too_but_not_drawn_again() -> None:
    same = {layer: torch.ones(4, 3) for layer in (1, 2)}
    other = {layer: torch.randn(5, 3, generator=torch.Generator().manual_seed(layer)) for layer in (1, 2)}
    rows = overlap_by_layer(
        same, other, energies=[0.5], centerings=[False], halves_seed=3, resampling=Resampling(10, 10)
    )
    pairs = [("useful", "harmful"), ("useful", "useful"), ("harmful", "harmful")]
    assert [(row.x, row.y, row.layer) for row in rows] == [(*pair, layer) for pair in pairs for layer in (1, 2)]
    # Four equal prompts: both halves span the same single direction, whatever the draw.
    assert [(row.k_x, row.k_y) for row in rows[2:4]] == [(1, 1)] * 2
    assert all(abs(row.mso - 1) < 1e-6 for row in rows[2:4])
    assert [math.isnan(row.p_value) for row in rows] == [False] * 2 + [True] * 4


def test_separation_of_every_layer() -> None:
    useful, harmful = (
        {layer: torch.randn(9, 3, generator=torch.Generator().manual_seed(seed + layer)) for layer in (2, 5)}
        for seed in (0, 10)
    )
    rows = separation_by_layer(useful, harmful, 7)
    assert rows == [LayerSeparation(layer, **vars(separation(useful[layer], harmful[layer], 7))) for layer in (2, 5)]
    assert list(columns_of(SeparationRow)) == ["model", *vars(rows[0])]


def without_nan(point: ActivationPoint) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in vars(point).items()}
