"""The same study again: from its manifest, and on another number of threads."""

import json
import logging
import re

import polars as pl
import pytest

from faults.study import write_study
from safespan.errors import ConfigError, DataError
from safespan.files.atomic import write_json
from safespan.results import TABLES, RunFolder
from safespan.settings.study import StudyConfig, bundled_study, load_study
from safespan.study.rerun import differences, rerun
from safespan.study.run import run_study
from tiny_model import save_tiny_model

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    file = write_study(tmp_path_factory.mktemp("study"), save_tiny_model, "http://127.0.0.1:9/v1")
    return load_study(file, ["evaluation.harmfulness.judge=rules"])


@pytest.fixture(scope="module")
def run(study, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "first")
    run_study(study, folder.root)
    return folder


def test_a_manifest_is_enough_and_the_tables_are_the_same_bytes(run, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "safespan"):
        rerun(run.manifest, tmp_path / "again")
    assert [record.message for record in caplog.records if record.name == "safespan.study.rerun"] == []
    tables = {path.name: path.read_bytes() for path in run.root.glob("results/*.csv")}
    assert len(tables) == len(TABLES)
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").glob("results/*.csv")} == tables


def test_whatever_is_not_as_it_was_is_named(run, study, tmp_path, caplog):
    manifest = json.loads(run.manifest.read_text())
    manifest["versions"]["torch"] = "1.0"
    manifest["hardware"]["gpu"] = "Some GPU"
    manifest["inputs"]["harmfulness.prompts.file"] = "0" * 64
    manifest["inputs"]["useful"] = "1" * 64
    manifest["prompts"]["harmful"]["sha256"] = "2" * 64
    manifest["tables"]["models"] = "3" * 64
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with caplog.at_level(logging.WARNING, "safespan"):
        rerun(tmp_path / "manifest.json", tmp_path / "again")
    warnings = [record.message for record in caplog.records if record.name == "safespan.study.rerun"]
    assert [re.sub(r"[0-9a-f]{12}…$", "HASH", line) for line in warnings] == [
        "inputs: harmfulness.prompts.file was 000000000000…, is HASH",
        f"versions: torch was 1.0, is {json.loads(run.manifest.read_text())['versions']['torch']}",
        "hardware: gpu was Some GPU, is absent",
        "inputs: useful was 111111111111…, is HASH",
        "prompts: harmful was 222222222222…, is HASH",
        "tables: models was 333333333333…, is HASH",
    ]


def test_what_no_study_can_be_run_from(run, tmp_path):
    with pytest.raises(ConfigError, match="holds the run itself"):
        rerun(run.manifest, run.root)
    with pytest.raises(DataError, match=r"cannot read .*none.json"):
        rerun(tmp_path / "none.json", tmp_path / "out")
    (tmp_path / "old.json").write_text('{"config": {}, "versions": {}, "hardware": {}, "inputs": {}}')
    with pytest.raises(ConfigError, match="has no prompts, tables: expected the manifest.json"):
        rerun(tmp_path / "old.json", tmp_path / "out")


@pytest.mark.parametrize("name", ["organism", "planted", "smollm2"])
def test_a_study_is_in_its_manifest_whole(name, tmp_path):
    study = load_study(bundled_study(name))
    write_json(tmp_path / "manifest.json", study.model_dump(mode="json"))
    read = StudyConfig.model_validate(json.loads((tmp_path / "manifest.json").read_text()))
    assert read == study
    assert list(read.models) == list(study.models)  # a start before its use


def test_differences_have_both_sides():
    lines = differences("versions", {"a": 1, "b": 2}, {"b": 2, "c": 3})
    assert lines == ["versions: a was 1, is absent", "versions: c was absent, is 3"]


def test_two_threads_give_the_same_numbers_to_the_stated_digits(run, study, tmp_path):
    """The digits that docs/reliability.md states."""
    other = RunFolder(tmp_path / "two")
    run_study(study.model_copy(update={"threads": 2}), other.root)
    words, numbers = pl.selectors.exclude(pl.selectors.float()), pl.selectors.float()
    gaps = {}
    for name in TABLES:
        one, two = run.read_table(name), other.read_table(name)
        assert one.select(words).equals(two.select(words)), name
        distances = (one.select(numbers) - two.select(numbers)).select(pl.all().abs().max())
        gaps |= {f"{name}.{column}": gap for row in distances.rows(named=True) for column, gap in row.items() if gap}
    degrees = {column: gap for column, gap in gaps.items() if ".angle_" in column}
    assert max(degrees.values(), default=0) < 1e-3
    assert max((gap for column, gap in gaps.items() if column not in degrees), default=0) < 1e-5
