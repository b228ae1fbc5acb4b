"""A finished run, judged again with other statistics."""

import hashlib
import json
import shutil

import pytest

from faults.study import write_study
from safespan.errors import ConfigError, DataError
from safespan.results import RunFolder
from safespan.settings.study import load_study
from safespan.study.run import run_study
from safespan.study.verdict_again import judge_run_again
from tiny_model import save_tiny_model

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    file = write_study(tmp_path_factory.mktemp("study"), save_tiny_model, "http://127.0.0.1:9/v1")
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    run_study(load_study(file, ["evaluation.harmfulness.judge=rules"]), folder.root)
    return folder


def tables(run):
    return {file.name: file.read_bytes() for file in sorted((run.root / "results").glob("*.csv"))}


def test_another_margin_and_back_gives_the_same_bytes(run):
    before = tables(run)
    judge_run_again(run.root, ["margin=0.45"])
    between, manifest = tables(run), run.read_manifest()
    assert {name for name in before if between[name] != before[name]} <= {"verdicts.csv", "estimates.csv"}
    assert between["estimates.csv"] != before["estimates.csv"]
    assert manifest.config["verdict"]["margin"] == 0.45
    assert "margin 0.45" in run.report.read_text(encoding="utf-8")
    judge_run_again(run.root, ["margin=0.15"])
    assert tables(run) == before


@pytest.mark.parametrize("setting", ["controls=12", "until_decided=false", "seed=1", "prompts=9"])
def test_what_changes_what_is_asked_is_refused(run, setting):
    with pytest.raises(ConfigError, match="another margin, confidence, resamples; anything else needs other prompts"):
        judge_run_again(run.root, [setting])


@pytest.mark.parametrize("table", ["coverage", "update", "ablation", "training"])
def test_a_table_that_is_gone_is_one_error(run, tmp_path, table):
    folder = RunFolder(shutil.copytree(run.root, tmp_path / "run"))
    folder.table(table).unlink()
    with pytest.raises(DataError, match=f"{table}.csv: the table is gone"):
        judge_run_again(folder.root)


def test_a_run_that_was_moved_without_its_models_and_data_is_judged_from_its_records(run, tmp_path):
    judge_run_again(run.root, ["margin=0.2"])
    moved = RunFolder(shutil.copytree(run.root, tmp_path / "elsewhere"))
    for folder in ("checkpoints", "data"):
        shutil.rmtree(moved.root / folder, ignore_errors=True)
    judge_run_again(moved.root, ["margin=0.15"])
    judge_run_again(run.root, ["margin=0.15"])
    assert tables(moved) == tables(run)
    written = moved.read_manifest().tables
    assert {name: written[name] for name in ("verdicts", "estimates")} == {
        name: hashlib.sha256(moved.table(name).read_bytes()).hexdigest() for name in ("verdicts", "estimates")
    }


@pytest.mark.parametrize("name", ["safespan", "safespan records"])
def test_records_of_another_version_are_not_judged(run, tmp_path, name):
    folder = RunFolder(shutil.copytree(run.root, tmp_path / "run"))
    manifest = folder.read_manifest()
    manifest.versions[name] = "0.0.1"
    manifest.write(folder.manifest)
    with pytest.raises(DataError, match=f"made by another version .{name} 0.0.1, here"):
        judge_run_again(folder.root)


def test_records_that_are_gone_are_one_error(run, tmp_path):
    folder = RunFolder(shutil.copytree(run.root, tmp_path / "run"))
    shutil.rmtree(folder.root / "results" / "points" / "update")
    with pytest.raises(DataError, match="run the study again"):
        judge_run_again(folder.root, ["margin=0.2"])


def test_a_folder_without_a_verdict_is_one_error(tmp_path):
    with pytest.raises(DataError, match="no finished run with a verdict"):
        judge_run_again(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"config": {"verdict": None}}))
    with pytest.raises(DataError, match="no finished run with a verdict"):
        judge_run_again(tmp_path)
