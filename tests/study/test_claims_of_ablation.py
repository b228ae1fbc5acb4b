"""Claims of the ablation test that studies name: from captured activations to verdicts, on tiny models."""

import json
import math

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file

from faults.study import write_study
from oracle import exact
from safespan.files.atomic import write_jsonl
from safespan.results import RunFolder
from safespan.settings.study import load_study
from safespan.study.context import Study
from safespan.study.run import run_study
from safespan.study.stages import stages
from safespan.subspaces import CapturedActivations
from safespan.subspaces.hypotheses.refusal_direction import ranked
from tiny_model import save_tiny_model

CLAIMS = (
    "refusal-direction", "refusal-direction-orthogonal", "refusal-direction-norms",
    "refusal-direction-orthogonal-norms",
    "harmfulness-direction", "refusal-som", "safety-residual",
    "safety-neurons", "set-difference-neurons", "fine-grained-neurons",
)  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyz"
CAPTURE = "activations of aligned"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A study whose aligned model begins its answers to some prompts of both kinds as refusals do."""
    folder = write_study(tmp_path_factory.mktemp("study"), save_tiny_model, "http://127.0.0.1:9/v1").parent
    write_jsonl(folder / "plain.jsonl", [{"prompt": letter} for letter in LETTERS])
    pairs = [{"prompt": f"{first} {second}"} for first in LETTERS[::3] for second in LETTERS[::5]]
    write_jsonl(folder / "pairs.jsonl", pairs)
    return folder


def study_of(inputs, claims=CLAIMS, base="base"):
    fields = json.loads((inputs / "study.yaml").read_text())
    models = {"base": {"model": str(inputs / base)}, "aligned": fields["models"]["aligned"]}
    sources = {"useful": {"file": str(inputs / "plain.jsonl")}, "harmful": str(inputs / "pairs.jsonl")}
    verdict = {"tests": ["ablation"], "hypotheses": list(claims), "refusals": list(LETTERS[13:])}
    fields |= {"models": models, "activations": fields["activations"] | sources, "projection": None, "overlap": None}
    fields["verdict"] = {name: value for name, value in fields["verdict"].items() if name != "training"} | verdict
    fields["evaluation"]["harmfulness"]["judge"] = "rules"
    (inputs / "ablation.yaml").write_text(json.dumps(fields))
    return load_study(inputs / "ablation.yaml", [])


@pytest.fixture(scope="module")
def run(inputs, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    run_study(study_of(inputs), folder.root)
    return folder


@pytest.mark.long
def test_every_claim_is_asked_at_every_point_and_judged(run):
    table, verdicts = run.read_table("ablation"), run.read_table("verdicts")
    assert set(table["hypothesis"]) == set(CLAIMS)
    for claim in CLAIMS:
        own = table.filter((pl.col("hypothesis") == claim) & (pl.col("strength") > 0))
        assert set(own["draw"]) == {None, 0, 1}
        assert (own["energy_removed"] > 0).all()
        assert verdicts.filter(pl.col("hypothesis") == claim).height == 2  # harm and refusal
    covered = run.read_table("coverage")
    assert (covered["matrices_named"] > 0).all()
    named = dict(zip(covered["hypothesis"], covered["matrices_named"], strict=True))
    assert named["refusal-som"] == named["safety-residual"] == named["refusal-direction"] == 5
    assert (named["safety-neurons"], named["fine-grained-neurons"]) == (4, 14)


@pytest.mark.long
def test_the_energy_of_rows_that_keep_their_norm_is_that_of_the_change(run, inputs):
    """By NumPy, from the captured direction and the weights on disk, in float32 as the model is asked."""
    candidates = CapturedActivations(run.captured).refusal_candidates()
    r = exact(candidates[ranked(candidates)[0]].direction)
    r /= np.linalg.norm(r)
    weights = {name: exact(weight) for name, weight in load_file(inputs / "aligned" / "model.safetensors").items()}
    changed = 0.0
    for name, weight in weights.items():
        if name.endswith(("o_proj.weight", "down_proj.weight", "embed_tokens.weight")):
            lengths = np.linalg.norm(weight, axis=1, keepdims=True)
            unit = weight / lengths
            left = unit - (np.outer(unit @ r, r) if "embed" in name else np.outer(r, r @ unit))
            changed += ((lengths * left / np.linalg.norm(left, axis=1, keepdims=True) - weight) ** 2).sum()
    whole = sum((weight**2).sum() for weight in weights.values())
    own = (pl.col("hypothesis") == "refusal-direction-norms") & pl.col("draw").is_null() & (pl.col("strength") == 1)
    [energy] = run.read_table("ablation").filter(own)["energy_removed"]
    assert math.isclose(energy, changed / whole, rel_tol=1e-3)


@pytest.mark.long
def test_a_second_run_asks_nothing_again(run, inputs):
    run_study(study_of(inputs), run.root)
    assert all(record.reused for record in run.read_manifest().stages)


def key_of_capture(study, folder):
    return {stage.name: stage.key() for stage in stages(Study(study, folder))}[CAPTURE]


def test_what_is_captured_depends_on_base_where_a_claim_reads_it_and_nowhere_else(inputs, tmp_path):
    other = save_tiny_model(tmp_path / "other", seed=5)
    read, unread = ("safety-residual", "refusal-som"), ("refusal-som", "alignment")
    for claims, depends in ((read, True), (unread, False)):
        first, second = (key_of_capture(study_of(inputs, claims, base), tmp_path / "run") for base in ("base", other))
        assert (first != second) is depends
    keys = {key_of_capture(study_of(inputs, claims), tmp_path / "run") for claims in (read, unread, unread[:1])}
    assert len(keys) == 2


def test_a_file_with_other_contents_is_captured_anew(inputs, tmp_path, monkeypatch):
    before = key_of_capture(study_of(inputs), tmp_path / "run")
    monkeypatch.setattr("safespan.study.stages.CONTENTS", 1)
    assert key_of_capture(study_of(inputs), tmp_path / "run") != before


@pytest.mark.long
def test_base_is_not_run_on_prompts_where_no_claim_reads_it(inputs, tmp_path, run, caplog):
    study = study_of(inputs, ["refusal-direction"])
    assert study.evaluation.general is None
    run_study(study, tmp_path / "run")
    assert "without evaluation.general, lost capability is measured on the useful questions alone" in caplog.text
    without, with_base = load_file(RunFolder(tmp_path / "run").captured), load_file(run.captured)
    assert {name for name in with_base if name not in without} == {
        f"base/{kind}/{layer}" for kind in ("useful", "harmful") for layer in (1, 2)
    }
