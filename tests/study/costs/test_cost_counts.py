"""The counts of a dry run, against what a finished run wrote: its tables, records, responses and checkpoints."""

import json
from datetime import datetime

import pytest
from transformers import AutoTokenizer

from safespan.results import Manifest, RunFolder
from safespan.settings.study import bundled_study, load_study
from safespan.study.costs.estimate import estimate
from safespan.study.costs.rates import Calibration, this_machine, write_calibration
from safespan.study.costs.told import cost_lines
from safespan.study.run import run_study

pytestmark = pytest.mark.long

ROLES = tuple(load_study(bundled_study("organism")).models)
TINY = [
    *(f"models.{role}.train.max_steps=3" for role in ROLES),
    *(f"models.{role}.train.batch_size=4" for role in ROLES),
    *(f"evaluation.{kind}.limit=4" for kind in ("utility", "general", "harmfulness", "over_refusal")),
    "models.safe.train={batch_size: 4, epochs: 2, accumulation_steps: 3, compute: fp32, gradient_checkpointing: false}",
    'models.safe.train.data={file: "{run}/data/train/safe.jsonl", rows: 41}',
    "projection.fractions=[0.5]",
    "activations.models=[aligned]",
    "activations.permutations=2",
    "activations.bootstraps=2",
    "verdict.hypotheses=[alignment, lox]",
    "verdict.fractions=[0.3, 1.0]",
    "verdict.prompts=3",
    "verdict.controls=2",
    "verdict.resamples=100",
    "verdict.until_decided=false",
    "verdict.ablation.hypotheses=[alignment]",
    "verdict.training={hypotheses: [alignment], controls: 2, points: 1}",
    "execution.workers=1",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run of a calibrated machine, and the costs as they were reckoned before."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAFESPAN_CACHE", str(folder / "cache"))
        machine = this_machine()
        write_calibration(
            Calibration(
                processor=machine.processor,
                device=machine.device,
                threads=1,
                made="2026-01-01T00:00:00+00:00",
                safespan="0",
                parameters=(1, 10**9),
                seconds={"training, a step": 0.01, "response": 0.001, "start": 1.0},
            )
        )
        config, out = load_study(bundled_study("organism"), TINY), folder / "run"
        costs = estimate(config, out)
        assert not out.exists()
        run_study(config, out)
    return costs, RunFolder(out)


def records(run, place):
    return [json.loads(path.read_text()) for path in sorted((run.root / "results" / "points" / place).glob("*.json"))]


def test_trainings_have_the_steps_and_the_bytes_that_were_counted(made):
    costs, run = made
    for role in [*ROLES, "harmful-again"]:
        stage = costs.stages[f"model {role.replace('-', ' ')}"]
        record = json.loads((run.checkpoint(role) / "training.json").read_text())
        assert stage.most.steps == stage.least.steps == record["steps"], role
        weights = (run.checkpoint(role) / "model.safetensors").stat().st_size
        assert 0 <= weights - stage.most.written < 10_000, role  # beside the numbers, the file has a header
    safe = json.loads((run.checkpoint("safe") / "training.json").read_text())
    assert (safe["examples"], safe["steps"]) == (41, 2 * 4)  # eleven batches of four, three a step


def test_every_row_of_whole_epochs_is_counted_once_an_epoch(made):
    costs, run = made
    tokenizer = AutoTokenizer.from_pretrained(run.checkpoint("safe"))
    lines = (run.data / "train" / "safe.jsonl").read_text().splitlines()[:41]
    turns = [[{"role": "user", "content": row["prompt"]}] for row in map(json.loads, lines)]
    prompts = [tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=True) for turn in turns]
    answers = [len(tokenizer(json.loads(line)["response"], add_special_tokens=False).input_ids) + 1 for line in lines]
    tokens = sum(len(prompt["input_ids"]) for prompt in prompts) + sum(answers)
    assert costs.stages["model safe"].most.trained_tokens == 2 * tokens


def test_responses_and_their_tokens_are_those_of_the_run(made):
    costs, run = made
    files = sorted((run.root / "generations").glob("*.jsonl"))
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    outcomes = costs.stages["outcomes"].most
    assert (outcomes.opened, outcomes.responses) == (len(ROLES), len(rows)) == (6, 6 * 16)
    tokenizer = AutoTokenizer.from_pretrained(run.checkpoint("aligned"))
    turns = [[{"role": "user", "content": row["prompt"]}] for row in rows]
    ids = [
        tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=True)["input_ids"] for turn in turns
    ]
    assert outcomes.prompt_tokens == sum(map(len, ids))
    said = sum(len(tokenizer(row["response"], add_special_tokens=False).input_ids) for row in rows)
    assert said <= outcomes.new_tokens == 12 * len(rows)
    points = sorted((run.root / "generations" / "projection").glob("*.jsonl"))
    grid = costs.stages["projection"].most
    assert grid.points == len(points) == len(run.read_table("projection")) == 3 * 4 * 2
    assert grid.responses == sum(len(point.read_text().splitlines()) for point in points)


def test_the_points_of_tests_that_look_once_are_all_counted(made):
    costs, run = made
    asked = records(run, "update/0-3")
    update = costs.stages["update test"].least
    assert update.points + update.controls == len(asked) == len(run.read_table("update")) == 3 * 2 * 3
    assert update.asks == len(asked) + len(records(run, "update/models")) == 18 + 2
    assert update.opened == 2
    responses = len(asked[0]["scored"]["per_prompt"]["correct"]) * 4
    assert update.responses == responses * update.asks
    ablation = costs.stages["ablation test"]
    known = len(records(run, "ablation/0-3"))
    least, most = (work.points + work.controls for work in (ablation.least, ablation.most))
    assert least == 2 * 3 <= known <= most == (2 + 6) * 3


def test_the_trainings_of_the_training_test_are_all_counted(made):
    costs, run = made
    test, trained = costs.stages["training test"], records(run, "training")
    assert test.least.trainings == test.most.trainings == len(trained) == 5
    rows = run.read_table("training")
    assert test.least.steps == sum(rows.group_by("run", "hypothesis", "draw").max()["step"]) == 5 * 3
    assert test.least.asks == 1 + sum(len(one["scored"]["steps"]) for one in trained)


def test_the_manifest_has_the_costs_beside_what_was_used(made):
    costs, run = made
    manifest = Manifest.read(run.manifest)
    assert manifest.estimate["seconds"]["likely"] == pytest.approx(costs.time.likely)
    assert {stage.name for stage in manifest.stages} >= manifest.estimate["stages"].keys() - {"report"}
    lines = cost_lines(costs, datetime(2026, 1, 1, 12, 0))
    assert any(line.startswith("time: about ") and "ends at about 12:0" in line for line in lines)
