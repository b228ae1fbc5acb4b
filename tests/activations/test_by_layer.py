from itertools import product
from pathlib import Path

from safespan.activations import activation_overlap, capture, overlap_by_layer
from safespan.loading import load_causal_lm
from safespan.results import SCHEMAS


def test_rows_of_every_layer_and_centering(tiny_model_folder: Path) -> None:
    useful, harmful = ["a b", "c d e", "f"], ["g h", "i", "j k l", "m"]
    rows = overlap_by_layer(tiny_model_folder, (useful, harmful), energies=[0.2, 0.6])
    keys = [(row["layer"], row["centered"], row["energy_fraction"]) for row in rows]
    assert keys == [(layer, centered, eta) for centered, layer, eta in product((False, True), (1, 2), (0.2, 0.6))]
    assert {"model", *rows[0]} == set(SCHEMAS["activations"])
    states = [capture(*load_causal_lm(tiny_model_folder), prompts)[2] for prompts in (useful, harmful)]
    found = {name: rows[-1][name] for name in rows[-1] if name not in ("layer", "centered")}
    assert [found] == activation_overlap(*states, [0.6], centered=True)
    assert {row["layer"] for row in overlap_by_layer(tiny_model_folder, (useful, harmful), depth="0.4:0.6")} == {1}
