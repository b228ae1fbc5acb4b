"""What a change of the inputs does again: the stages that depend on it, and no other."""

import json
import os
import shutil
from pathlib import Path

import polars as pl
import pytest
import yaml

from faults.study import write_study
from safespan.files.atomic import read_jsonl, write_jsonl
from safespan.results import RunFolder
from safespan.settings.evaluation import EvaluationConfig
from safespan.settings.study import load_study
from safespan.study.context import Study
from safespan.study.keys import input_hashes, key_of
from safespan.study.run import run_study
from safespan.study.stages import stages
from tiny_model import save_tiny_model

TESTS = ["update test", "ablation test", "training test"]
ASK = ["outcomes", "projection", *TESTS, "verdict"]
"""The stages that ask the documents of the utility task."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Models, rows, prompts, a task and a study; the test that changes them takes a copy of the run only."""
    file = write_study(tmp_path_factory.mktemp("study"), save_tiny_model, "http://127.0.0.1:9/v1")
    return file.parent


@pytest.fixture(scope="module")
def study(inputs):
    return load_study(inputs / "study.yaml", ["evaluation.harmfulness.judge=rules"])


@pytest.fixture(scope="module")
def run(study, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    run_study(study, folder.root)
    return folder


@pytest.fixture
def task(inputs):
    """The documents of the task, which are what they were when the test is over."""
    path = inputs / "task.jsonl"
    before = path.read_bytes()
    yield path
    path.write_bytes(before)


def done_again(run, study):
    """The stages that a second run does, of all stages."""
    run_study(study, run.root)
    records = run.read_manifest().stages
    return [record.name for record in records if not record.reused], [record.name for record in records]


def utility_of_base(run):
    return run.read_table("models").filter(pl.col("model") == "base")["utility"].item()


@pytest.mark.long
def test_other_documents_of_a_task_redo_what_asks_them_and_nothing_else(run, study, task, tmp_path):
    run = RunFolder(shutil.copytree(run.root, tmp_path / "run"))
    responses = [row["response"] for row in read_jsonl(run.generations("base")) if row["kind"] == "utility"]
    assert utility_of_base(run) == 0
    # From now on whatever the base answers is right.
    documents = zip(read_jsonl(task), responses, strict=True)
    write_jsonl(task, [row | {"answer": response or "never"} for row, response in documents])
    redone, names = done_again(run, study)
    assert redone == ASK
    others = [
        "roles",
        *(f"model {role}" for role in ("useful", "harmful", "contaminated")),
        "update overlap",
        "coverage",
    ]
    others += ["activation overlap", "activations of aligned"]
    assert sorted(names) == sorted(ASK + others)
    assert any(responses)
    assert utility_of_base(run) == pytest.approx(sum(map(bool, responses)) / len(responses), abs=1e-6)
    assert done_again(run, study)[0] == []


@pytest.mark.long
@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json", "generation_config.json"])
def test_another_tokenizer_or_template_redoes_what_reads_texts_and_nothing_else(name, run, study):
    """Trainings that start from the aligned model read texts as it does, so that all that is of them changes too."""
    given = next(model.model for role, model in study.models.items() if role == "aligned")
    path = Path(given) / name
    known = path.read_bytes()

    def keys():
        return {stage.name: stage.key() for stage in stages(Study(study, run.root))}

    before = keys()
    try:
        path.write_bytes(known + b" ")
        after = keys()
    finally:
        path.write_bytes(known)
    trained = [f"model {role}" for role, model in study.models.items() if model.start == "aligned"]
    assert {name for name in before if before[name] != after[name]} == {
        *ASK, *trained, "activation overlap", "activations of aligned"
    }  # fmt: skip


@pytest.mark.long
def test_files_named_as_settings_are_change_no_key(run, study, tmp_path, monkeypatch):
    def keys():
        return {stage.name: stage.key() for stage in stages(Study(study, run.root))}

    before = keys()
    monkeypatch.chdir(tmp_path)
    for name in ("rules", "alignment", "output", "parallel", "aligned", "memory", "exact_match"):
        (tmp_path / name).write_text("a file of the user")
    assert keys() == before
    assert done_again(run, study)[0] == []


@pytest.mark.long
def test_other_openings_of_refusals_change_what_reads_them_and_nothing_else(run, study, inputs):
    others = load_study(
        inputs / "study.yaml", ["evaluation.harmfulness.judge=rules", "verdict.refusals=[sorry, never]"]
    )
    before, after = ({s.name: s.key() for s in stages(Study(config, run.root))} for config in (study, others))
    assert [name for name in before if before[name] != after[name]] == ["activations of aligned", *TESTS, "verdict"]


@pytest.mark.long
def test_one_more_claim_in_one_test_changes_no_other_test(run, study, inputs):
    chosen = ["evaluation.harmfulness.judge=rules", "verdict.training.hypotheses=[alignment, random]"]
    more = load_study(inputs / "study.yaml", chosen)
    before, after = ({s.name: s.key() for s in stages(Study(config, run.root))} for config in (study, more))
    assert [name for name in before if before[name] != after[name]] == ["coverage", "training test", "verdict"]


@pytest.fixture
def evaluation(tmp_path):
    """An evaluation that names files in every way; and what it names."""
    task = {
        "task": "own",
        "include": "shared.yaml",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "documents.jsonl")}},
    }
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task) + "process_results: !function scores.of_a_document\n")
    (tmp_path / "shared.yaml").write_text("output_type: generate_until\n")
    (tmp_path / "scores.py").write_text("def of_a_document(document, results): ...\n")
    for name in ("documents.jsonl", "harmful.jsonl"):
        (tmp_path / name).write_text(json.dumps({"prompt": "a b"}) + "\n")
    (tmp_path / "benign.txt").write_text("c d\n")
    return EvaluationConfig(
        utility={"task": str(tmp_path / "task.yaml")},
        harmfulness={"prompts": str(tmp_path / "harmful.jsonl")},
        over_refusal={"prompts": str(tmp_path / "benign.txt")},
    )


@pytest.mark.parametrize(
    ("file", "field"),
    [
        ("task.yaml", "utility.task"),
        ("shared.yaml", "utility.task"),
        ("scores.py", "utility.task"),
        ("documents.jsonl", "utility.task"),
        ("harmful.jsonl", "harmfulness.prompts.file"),
        ("benign.txt", "over_refusal.prompts.file"),
        ("beside.jsonl", None),
    ],
)
def test_the_contents_of_every_file_that_is_read_are_an_input(evaluation, tmp_path, file, field):
    before = input_hashes(evaluation)
    assert set(before) == {"utility.task", "harmfulness.prompts.file", "over_refusal.prompts.file"}
    with (tmp_path / file).open("a") as end:
        end.write("\n")
    after = input_hashes(evaluation)
    assert {name for name in before if before[name] != after[name]} == ({field} if field else set())


def test_when_a_file_was_written_is_no_input(evaluation, tmp_path):
    before = input_hashes(evaluation)
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1))
    assert input_hashes(evaluation) == before


def test_a_judge_is_no_file_though_there_is_one_of_its_name(evaluation, tmp_path, monkeypatch):
    before = input_hashes(evaluation)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules").write_text("a file of the user")
    assert input_hashes(evaluation) == before


def test_equal_parts_have_equal_keys_and_their_order_counts():
    assert key_of({"a": 1, "b": 2}, "c") == key_of({"b": 2, "a": 1}, "c")
    assert len({key_of("a", "b"), key_of("b", "a"), key_of("a"), key_of(["a", "b"]), key_of("a", None)}) == 5
