"""Rows and prompts are read and checked when a study is planned, and before it runs, where they are on this disk."""

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest

from safespan.errors import DataError
from safespan.files.atomic import write_jsonl
from safespan.results import RunFolder
from safespan.settings.study import StudyConfig, bundled_study, load_study
from safespan.study.inputs import check_data
from safespan.study.plan import plan
from safespan.study.run import run_study

GOOD = [{"prompt": f"a {n}", "response": "b", "target": "c"} for n in range(10)]


@pytest.fixture(autouse=True)
def _here_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Names of files are from the test's own folder, and so is the cache of data sets; nothing asks for the network."""
    asked: list[object] = []

    def refused(*given: object, **_: object) -> None:
        asked.append(given)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    write_jsonl(Path("good.jsonl"), GOOD)
    write_jsonl(Path("other.jsonl"), [{"prompt": f"x {n}"} for n in range(10)])
    yield
    assert asked == []


def study(**fields: Any) -> StudyConfig:
    """A study that names data in every field that can."""
    train = {"data": "good.jsonl", "contaminate_with": {"file": "good.jsonl", "rows": 2}}
    whole = {
        "name": "S",
        "models": {
            "base": {"model": "org/b"},
            "aligned": {"model": "org/m"},
            "contaminated": {"start": "aligned", "train": train},
        },
        "projection": None,
        "overlap": None,
        "evaluation": {
            "utility": {"task": "gsm8k"},
            "harmfulness": {"prompts": "good.jsonl"},
            "over_refusal": {"prompts": "good.jsonl"},
        },
        "activations": {"useful": "other.jsonl", "harmful": "good.jsonl", "models": ["aligned"]},
        "verdict": {"useful": "good.jsonl", "hypotheses": ["random"]},
    }
    return StudyConfig.model_validate({**whole, **fields})


def naming(field: str, source: object) -> StudyConfig:
    """The study with another source in one field."""
    fields = study().model_dump(mode="json", exclude_unset=True)
    *parents, last = field.split(".")
    inner = fields
    for parent in parents:
        inner = inner[parent]
    inner[last] = source
    return StudyConfig.model_validate(fields)


FIELDS = {
    "models.contaminated.train.data": "response",
    "models.contaminated.train.contaminate_with": "response",
    "evaluation.harmfulness.prompts": "prompt",
    "evaluation.over_refusal.prompts": "prompt",
    "activations.useful": "prompt",
    "activations.harmful": "prompt",
    "verdict.useful": "prompt",
}


@pytest.mark.parametrize(("field", "needed"), FIELDS.items())
def test_a_row_at_fault_is_named_with_its_field_before_anything_is_done(
    field: str, needed: str, tmp_path: Path
) -> None:
    write_jsonl(Path("bad.jsonl"), [*GOOD[:3], {**GOOD[3], needed: 5}, *GOOD[4:]])
    for config, says in (
        (
            naming(field, "bad.jsonl"),
            f"^{field}: bad.jsonl: row 4 has no text in the field '{needed}' \\(fields there: ",
        ),
        (naming(field, "none.jsonl"), f"^{field}: none.jsonl: no such file"),
    ):
        for check in (lambda c: plan(c, tmp_path / "run"), lambda c: run_study(c, tmp_path / "run")):
            with pytest.raises(DataError, match=says):
                check(config)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("target", [5, ["c"], float("nan")])
def test_a_target_that_is_no_text(target: object, tmp_path: Path) -> None:
    write_jsonl(Path("bad.jsonl"), [GOOD[0], {**GOOD[1], "target": target}])
    for field in list(FIELDS)[2:]:
        with pytest.raises(DataError, match=f"^{field}: bad.jsonl: row 2 has .* in the field 'target', expected text"):
            plan(naming(field, "bad.jsonl"), tmp_path / "run")


def test_a_verdict_needs_answers_to_the_prompts_that_it_asks(tmp_path: Path) -> None:
    write_jsonl(Path("some.jsonl"), [*GOOD[:3], {"prompt": "x"}])
    for field in ("evaluation.harmfulness.prompts", "verdict.useful"):
        with pytest.raises(DataError, match=f"{field}: some.jsonl: a verdict needs answers, and prompt 4 has none"):
            plan(naming(field, "some.jsonl"), tmp_path / "run")
        first = naming(field, {"file": "some.jsonl", "rows": 3})
        plan(first, tmp_path / "run")
    fields = naming("evaluation.harmfulness.prompts", "some.jsonl").model_dump(mode="json", exclude_unset=True)
    fields["evaluation"]["harmfulness"]["limit"] = 3
    plan(StudyConfig.model_validate(fields), tmp_path / "run")
    plan(StudyConfig.model_validate({**fields, "verdict": None}), tmp_path / "run")


def test_too_few_contaminating_rows(tmp_path: Path) -> None:
    few = naming("models.contaminated.train.contaminate_with", {"file": "good.jsonl", "rows": 1})
    with pytest.raises(DataError, match=r"good.jsonl: 20 % of 10 rows are 2 contaminating rows, 1 there"):
        plan(few, tmp_path / "run")


def test_what_is_read_is_counted_and_what_cannot_be_read_is_listed(tmp_path: Path) -> None:
    lines = plan(naming("activations.harmful", {"dataset": "org/none", "rows": 7}), tmp_path / "run")
    assert "rows of contaminated: good.jsonl, 10 rows" in lines
    assert "rows mixed into contaminated, 20 % of the number of its other rows: good.jsonl, 2 rows" in lines
    assert "useful questions of the verdict: good.jsonl, 10 rows" in lines
    assert "harmful prompts for activations: org/none train, 7 rows" in lines
    assert "data that could not be checked yet: org/none train, lm-eval task gsm8k" in lines
    assert lines[-1] == "downloads, of what is not in the cache: org/b, org/m, org/none train, lm-eval task gsm8k"


def test_what_the_study_makes_is_not_looked_for(tmp_path: Path) -> None:
    config = load_study(bundled_study("organism"))
    made = {named.field: rows for named, rows in check_data(config.resolved(tmp_path), RunFolder(tmp_path))}
    assert set(made.values()) == {None}
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")  # a study names the folder that the link leads to
    assert check_data(config.resolved(tmp_path / "link"), RunFolder(tmp_path / "link"))
    [line] = [
        line for line in plan(config, tmp_path / "run") if line.startswith("data that could not be checked yet: ")
    ]
    assert f"{tmp_path}/run/data/test/restricted.jsonl" in line
    assert f"lm-eval task {tmp_path}/run/data/tasks/organism_skill.yaml" in line


def test_a_task_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^evaluation.utility.task: nope.yaml: no such file"):
        plan(naming("evaluation.utility.task", "nope.yaml"), tmp_path / "run")


def cached(cache: Path, rows: list[dict[str, Any]]) -> None:
    """Put a data set of the hub, org/some_set, into the cache of data sets."""
    write_jsonl(cache.parent / "made" / "train.jsonl", rows)
    datasets.load_dataset(str(cache.parent / "made"), cache_dir=str(cache.parent / "first"))
    [made] = (cache.parent / "first").glob("made/default*/0.0.0/*/")
    place = cache / "org___some_set" / "default" / "0.0.0" / ("a" * 40)
    shutil.copytree(made, place)
    (place / "made-train.arrow").rename(place / "some_set-train.arrow")
    info = place / "dataset_info.json"
    info.write_text(json.dumps({**json.loads(info.read_text()), "dataset_name": "some_set"}))


def test_a_data_set_in_the_cache_is_checked_and_one_without_that_subset_is_not(tmp_path: Path) -> None:
    cached(tmp_path / "cache", [*GOOD[:3], {**GOOD[3], "prompt": " "}])
    source = {"dataset": "org/some_set"}
    with pytest.raises(DataError, match=r"^activations.useful: org/some_set train: row 4 has no text"):
        plan(naming("activations.useful", source), tmp_path / "run")
    lines = plan(naming("activations.useful", {**source, "rows": 3}), tmp_path / "run")
    assert "useful prompts for activations: org/some_set train, 3 rows" in lines
    assert "org/some_set" not in lines[-1]
    lines = plan(naming("activations.useful", {**source, "subset": "other"}), tmp_path / "run")
    assert "data that could not be checked yet: org/some_set other train, lm-eval task gsm8k" in lines
    with pytest.raises(DataError, match=r"org/some_set dev: no such split"):
        plan(naming("activations.useful", {**source, "split": "dev"}), tmp_path / "run")


def test_a_folder_of_data_files_is_read_and_nothing_is_kept_of_it(tmp_path: Path) -> None:
    write_jsonl(Path("folder/train.jsonl"), [{"prompt": f"y {n}"} for n in range(10)])
    before = datasets.config.HF_HUB_OFFLINE, datasets.logging.get_verbosity()
    config = naming("activations.useful", {"dataset": "folder"})
    assert "useful prompts for activations: folder train, 10 rows" in plan(config, tmp_path / "run")
    assert not (tmp_path / "cache").exists()
    assert (datasets.config.HF_HUB_OFFLINE, datasets.logging.get_verbosity()) == before
