import json
import os
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import polars as pl
import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from oracle import exact, mso
from safespan.errors import ConfigError
from safespan.results import TABLES, RunFolder, schema_of
from safespan.settings.names import TESTS
from safespan.settings.study import bundled_study, load_study
from safespan.study.context import Study
from safespan.study.run import run_study
from safespan.study.stages import stages
from safespan.subspaces import find_hypothesis

pytestmark = pytest.mark.long

ROLES = tuple(load_study(bundled_study("organism")).models)

SMALL = [
    *(f"models.{role}.train.max_steps=2" for role in ROLES),
    *(f"models.{role}.train.batch_size=4" for role in ROLES),
    *(f"evaluation.{kind}.limit=4" for kind in ("utility", "general", "harmfulness", "over_refusal")),
    "projection.fractions=[0.25, 0.99]",
    "activations.models=[aligned]",
    "activations.permutations=9",
    "activations.bootstraps=9",
    "verdict.hypotheses=[alignment, safelora, lox, refusal-direction]",
    "verdict.fractions=[0.3, 1.0]",
    "verdict.prompts=4",
    "verdict.controls=2",
    "verdict.resamples=100",
    "verdict.ablation.hypotheses=[alignment, refusal-direction]",
    "verdict.training={hypotheses: [alignment], controls: 2, points: 1}",
]


@pytest.fixture(scope="module")
def study():
    return load_study(bundled_study("organism"), SMALL)


@pytest.fixture(scope="module")
def run(study, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "first")
    run_study(study, folder.root)
    return folder


def contents(run, pattern):
    return {path.relative_to(run.root): path.read_bytes() for path in sorted(run.root.glob(pattern))}


def times(run, pattern):
    return {path: path.stat().st_mtime_ns for path in sorted(run.root.glob(pattern))}


def test_every_table_is_whole(run):
    for name, kind in TABLES.items():
        assert run.read_table(name).columns == list(schema_of(kind)), name
    assert run.read_table("models")["model"].to_list() == list(ROLES)
    points = run.read_table("projection")
    assert len(points) == len(points.unique(["finetune", "subspace", "method", "fraction"])) == 3 * 4 * 2 * 2
    assert points.null_count().pipe(lambda nulls: sum(nulls.row(0))) == 0
    for name, keys in (("models", ["model"]), ("projection", ["finetune", "subspace", "method", "fraction"])):
        table, by_filter = run.read_table(name), run.read_table(f"{name}_by_filter")
        own = table.join(by_filter, on=keys, suffix="_of_filter")
        assert len(own) == len(table) * by_filter["filter"].n_unique()
        assert (own["utility"] == own["utility_of_filter"]).all()  # the task has one filter
    overlap = run.read_table("overlap")
    assert set(overlap["granularity"]) == {"tensor", "layer"}
    assert overlap.filter(pl.col("module").is_null())["granularity"].unique().to_list() == ["layer"]
    spectra = run.read_table("spectra")
    assert spectra["update"].unique(maintain_order=True).to_list() == [
        "alignment", "safety", "useful", "harmful", "contaminated",
    ]  # fmt: skip
    assert set(spectra["tensor"]) == set(overlap.filter(pl.col("granularity") == "tensor")["group"])
    assert spectra.null_count().pipe(lambda nulls: sum(nulls.row(0))) == 0
    matrices = spectra.unique(["update", "tensor"])
    assert matrices.group_by("update").agg(pl.sum("share_of_update"))["share_of_update"].is_between(0.9, 1).all()
    activations = run.read_table("activations")
    assert set(activations["centered"]) == {True, False}
    assert set(activations.select("x", "y").rows()) == {
        ("useful", "harmful"), ("useful", "useful"), ("harmful", "harmful")
    }  # fmt: skip
    assert activations.filter(pl.col("x") != pl.col("y"))["p_value"].is_between(0.1, 1).all()
    assert run.read_table("separation").select("model", "layer").rows() == [("aligned", layer) for layer in (1, 2, 3)]
    assert len(list((run.root / "generations" / "projection").iterdir())) == len(points)


def test_every_hypothesis_is_tried_beside_its_controls_and_gets_a_verdict(run):
    trials = run.read_table("update")
    # Two methods of a subspace, one of each edit; each its own and two controls, at two fractions. A model of so few
    # steps refuses nothing, so that there is no refusal direction to ask; and what cannot be measured is asked once.
    assert len(trials) == 2 * 3 * 2 + 2 * 1 * 3 * 2
    assert run.read_table("coverage").filter(hypothesis="refusal-direction")["matrices_named"].to_list() == [0, 0]
    assert trials.drop("draw").null_count().pipe(lambda nulls: sum(nulls.row(0))) == 0
    own = trials.filter(pl.col("draw").is_null())
    matched = trials.join(own, on=["hypothesis", "method", "fraction"]).filter(pl.col("hypothesis") != "lox")
    assert (matched["energy_kept"] - matched["energy_kept_right"]).abs().max() < 1e-4
    verdicts, names = run.read_table("verdicts"), ["alignment", "safelora", "lox", "refusal-direction"]
    asked = {
        "update": names,
        "ablation": ["alignment", "refusal-direction", "base"],
        "training": ["alignment", "clean"],
    }
    for test, of_test in asked.items():
        rows = verdicts.filter(test=test).select("hypothesis", "construct").rows()
        assert rows == list(product(of_test, ("harm", "refusal")))
    assert verdicts.filter(group="positive control")["hypothesis"].unique().sort().to_list() == ["base", "clean"]
    # Two steps of training teach nothing: no verdict on an update but that nothing can be said.
    assert set(verdicts.filter(test="update")["verdict"]) <= {"inconclusive", "not measurable", "too small to test"}
    decided = run.read_table("estimates").filter("decides", test="update")
    asked = sorted(set(trials["hypothesis"]))
    assert decided["hypothesis"].value_counts().sort("hypothesis").rows() == [(name, 5) for name in asked]
    assert set(decided["verdict"]) <= {"inconclusive", "not measurable"}


def test_each_claim_is_taken_out_of_the_aligned_model_beside_its_controls(run):
    ablation = run.read_table("ablation")
    assert set(ablation["hypothesis"]) <= {"alignment", "refusal-direction"}
    start = ablation.filter(strength=0.0)
    assert start["hypothesis"].to_list() == ablation["hypothesis"].unique(maintain_order=True).to_list()
    assert start.select("energy_removed", "capability_lost").unique().rows() == [(0.0, 0.0)]
    ablation = ablation.filter(pl.col("strength") > 0)
    own = ablation.filter(pl.col("draw").is_null())
    assert {0.3, 1.0} <= set(own["fraction"])
    matched = ablation.join(own, on=["hypothesis", "fraction", "strength"])
    assert (matched["energy_removed"] / matched["energy_removed_right"] - 1).abs().max() < 1e-3
    assert ablation["capability_lost"].is_between(-5, 1).all()
    covered = run.read_table("coverage").filter(test="ablation")
    assert covered.filter(hypothesis="alignment")["matrices_named"].to_list() == [23]
    assert covered.filter(hypothesis="alignment")["energy_held"][0] > 0.9


def test_each_training_is_measured_along_its_way_and_at_its_end(run):
    training = run.read_table("training")
    trainings = training.group_by("run", "hypothesis", "draw", maintain_order=True).agg("step", "seed", "group")
    assert trainings.select("run", "hypothesis", "draw").rows() == [
        ("unprotected", None, None),
        ("clean", None, None),
        ("random", None, 0),
        ("random", None, 1),
        ("claim", "alignment", None),
    ]
    assert trainings["step"].to_list() == [[0, 1, 2]] * 5
    assert len({seeds[0] for seeds in trainings["seed"].to_list()}) == 5  # each has its own order of the data
    numbers = {groups[0] for groups in trainings["group"].to_list()}
    assert len(numbers) == 2  # one of the claim and its controls, and none
    assert None in numbers


@pytest.fixture(scope="module")
def with_claims(tmp_path_factory):
    """Another's package, installed beside safespan: what its environment has to say so."""
    place = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(Path(__file__).parents[1] / "third_party", tmp_path_factory.mktemp("source") / "my-claims")
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--quiet", "--target", place]
    subprocess.run([sys.executable, "-m", "pip", "install", *offline, source], check=True)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(place), *sys.path]), "OMP_NUM_THREADS": "1"}


def test_a_hypothesis_of_another_package_is_listed_and_tested(run, with_claims, tmp_path):
    def printed_by(*words):
        done = subprocess.run(
            [sys.executable, "-m", "safespan", *map(str, words)], env=with_claims, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = printed_by("hypotheses")
    assert "my-paper; authors' test: update; tests here: update, ablation, training" in listed
    evaluation = {
        "utility": {"task": str(run.data / "tasks" / "organism_skill.yaml"), "limit": 8},
        "harmfulness": {"prompts": str(run.data / "test" / "restricted.jsonl"), "limit": 8, "max_new_tokens": 4},
    }
    (tmp_path / "evaluation.yaml").write_text(json.dumps(evaluation))
    rows = {"data": {"file": str(run.data / "train" / "useful.jsonl")}, "batch_size": 4, "accumulation_steps": 1}
    contaminated = {**rows, "contaminate_with": {"file": str(run.data / "train" / "forbidden.jsonl")}, "max_steps": 2}
    (tmp_path / "training.yaml").write_text(json.dumps(contaminated))
    words = [
        "test",
        "--hypothesis",
        "aligned-rows",
        "--config",
        tmp_path / "evaluation.yaml",
        "--out",
        tmp_path / "run",
    ]
    words += ["--tests", "update,ablation,training", "--training", tmp_path / "training.yaml"]
    for role in ("base", "aligned"):
        words += [f"--{role}", run.checkpoint(role)]
    fields = ("prompts=4", "fractions=[0.5]", "resamples=100", "refusals=[sorry]", "training={controls: 2, points: 1}")
    printed = printed_by(*words, *(word for field in fields for word in ("--set", f"verdict.{field}")))
    assert "aligned-rows" in printed
    assert f"report: {tmp_path / 'run' / 'report.html'}" in printed
    verdicts = RunFolder(tmp_path / "run").read_table("verdicts")
    claims = verdicts.filter(group="claim")
    assert claims.select("hypothesis", "test", "construct").rows() == [
        ("aligned-rows", test, construct) for test in TESTS for construct in ("harm", "refusal")
    ]
    for test in TESTS:
        assert "aligned-rows" in RunFolder(tmp_path / "run").read_table(test)["hypothesis"].to_list()


def test_the_ceiling_is_one_recipe_under_two_seeds(run):
    first, second = (
        json.loads((run.checkpoint(n) / "training.json").read_text()) for n in ("harmful", "harmful-again")
    )
    same = ("start", "config", "data", "examples", "steps")
    assert [first[field] for field in same] == [second[field] for field in same]
    assert (first["seed"], second["seed"]) == (0, 1)
    overlap = run.read_table("overlap")
    again = overlap.filter("again")
    assert set(again.select("x", "y").rows()) == {("harmful", "harmful")}
    assert overlap.filter(~pl.col("again"), pl.col("x") == pl.col("y")).is_empty()
    start, *ends = (load_file(run.checkpoint(n) / "model.safetensors") for n in ("aligned", "harmful", "harmful-again"))
    name = "model.layers.1.mlp.up_proj.weight"
    x, y = (exact(end[name] - start[name]) for end in ends)
    row = again.row(by_predicate=(pl.col("group") == name) & (pl.col("energy_fraction") == 0.5), named=True)
    assert row["mso"] == pytest.approx(mso(x, y, 0.5), abs=1e-4)


def test_the_checkpoints_are_ordinary_ones(run):
    for role in ROLES:
        model = AutoModelForCausalLM.from_pretrained(run.checkpoint(role))
        tokenizer = AutoTokenizer.from_pretrained(run.checkpoint(role))
        assert model.config.model_type == "llama"
        assert tokenizer.chat_template


def test_the_manifest_records_what_was_run(run, study):
    manifest = run.read_manifest()
    assert manifest.seed == 0
    assert manifest.config["projection"]["fractions"] == [0.25, 0.99]
    assert set(ROLES) <= set(manifest.inputs)
    assert manifest.prompts["harmful"].rows == 4
    assert manifest.prompts["activations useful"].rows == 300
    assert set(manifest.training) == {*ROLES, "harmful-again"}
    assert [part["rows"] for part in manifest.training["contaminated"]["data"]] == [4000, 800]
    assert set(manifest.tables) == set(TABLES)
    assert set(manifest.hypotheses) == {"alignment", "safelora", "lox", "refusal-direction"}
    assert manifest.hypotheses["alignment"].claim == find_hypothesis("alignment").claim
    names = [stage.name for stage in manifest.stages]
    last = ["projection", "update overlap", "activation overlap", "activations of aligned", "coverage"]
    last += ["update test", "ablation test", "training test", "verdict"]
    assert [name for name in names if name in last] == last
    assert names == [stage.name for stage in stages(Study(study, run.root))]
    assert run.report.exists()


def test_what_is_finished_is_not_done_again(run, study):
    watched = "checkpoints/*/model.safetensors", "results/*.csv", "generations/**/*.jsonl"
    before = [times(run, pattern) for pattern in watched]
    run_study(study, run.root)
    assert [times(run, pattern) for pattern in watched] == before
    assert all(stage.reused for stage in run.read_manifest().stages)


def test_an_interrupted_sweep_goes_on_where_it_stopped(run, study):
    table, generations = run.table("projection").read_bytes(), times(run, "generations/projection/*")
    run.table("projection").unlink()
    lost = run.root / "results" / "points" / "projection" / "useful-random-parallel-0.25.json"
    lost.unlink()
    run_study(study, run.root)
    assert run.table("projection").read_bytes() == table
    redone = {path.name for path, time in times(run, "generations/projection/*").items() if generations[path] != time}
    assert redone == {"useful-random-parallel-0.25.jsonl"}


def test_the_same_seed_gives_the_same_tables(run, study, tmp_path):
    again = RunFolder(tmp_path / "again")
    run_study(study, again.root)
    assert contents(again, "results/*.csv") == contents(run, "results/*.csv")
    assert len(contents(run, "results/*.csv")) == len(TABLES)


def test_a_missing_api_key_is_reported_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    judge = "evaluation.harmfulness.judge={kind: llm, model: openai/x, api_key_env: NO_SUCH_KEY}"
    with pytest.raises(ConfigError, match="NO_SUCH_KEY is not set"):
        run_study(load_study(bundled_study("organism"), [judge]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_cluster_that_does_not_answer_is_reported_before_anything_is_trained(tmp_path):
    pytest.importorskip("ray", reason="the extra ray is not installed")
    settings = ["execution.engine=ray", "execution.address='127.0.0.1:1'"]
    with pytest.raises(ConfigError, match="no Ray cluster answers at 127.0.0.1:1"):
        run_study(load_study(bundled_study("organism"), settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()
