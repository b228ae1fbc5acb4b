from typing import Annotated

import pytest
from pydantic import ValidationError

from safespan.settings.base import Names, Settings, named_inputs
from safespan.settings.evaluation import EvaluationConfig


class Source(Settings):
    file: Annotated[str | None, Names("file")] = None
    folder: Annotated[str | None, Names("folder")] = None
    split: str = "train"


class Inner(Settings):
    source: Source = Source()
    task: Annotated[str, Names("task")] = "gsm8k"


class Outer(Settings):
    title: str
    inner: Inner | None = None
    source: Source = Source()


def test_only_fields_that_are_marked_name_inputs(tmp_path, monkeypatch):
    """A title, and a split, that happen to be the name of a file are none of the inputs."""
    for name in ("title", "train"):
        (tmp_path / name).write_text("of something else")
    monkeypatch.chdir(tmp_path)
    settings = Outer(title="title", inner=Inner(source=Source(file="train")), source=Source(folder="title"))
    assert list(named_inputs(settings)) == [
        ("inner.source.file", "file", "train"),
        ("inner.task", "task", "gsm8k"),
        ("source.folder", "folder", "title"),
    ]


def test_what_is_not_set_names_nothing():
    assert list(named_inputs(Outer(title="title"))) == []


def test_the_inputs_of_an_evaluation():
    judge = {"kind": "classifier", "model": "judges/guard", "template": "{prompt} {response}"}
    settings = EvaluationConfig.model_validate(
        {
            "utility": {"task": "tasks/mine.yaml", "metric": "acc"},
            "general": "gsm8k",
            "harmfulness": {"prompts": {"file": "harmful.jsonl", "where": {"kind": "a"}}, "judge": judge},
            "over_refusal": {"prompts": {"dataset": "sets/benign", "split": "test"}},
        }
    )
    assert list(named_inputs(settings)) == [
        ("utility.task", "task", "tasks/mine.yaml"),
        ("general.task", "task", "gsm8k"),
        ("harmfulness.prompts.file", "file", "harmful.jsonl"),
        ("harmfulness.judge.model", "folder", "judges/guard"),
        ("over_refusal.prompts.dataset", "folder", "sets/benign"),
    ]


class Listed(Settings):
    shares: tuple[float, ...] = (1.0, 1.0)


def test_a_value_that_is_given_twice_is_named():
    """In any list of any settings; 1 and 1.0 are one number."""
    with pytest.raises(ValidationError, match="1.0 is given twice: leave one of them out") as caught:
        Listed.model_validate({"shares": [0.5, 1, 1.0]})
    assert caught.value.errors()[0]["loc"] == ("shares",)
    assert Listed.model_validate({"shares": [0.5, 1]}).shares == (0.5, 1.0)
