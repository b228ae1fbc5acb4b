"""The grammar of model names, against names that were sorted by hand."""

import pytest

from safespan.errors import CheckpointError
from safespan.settings.model_names import FORMS, check_model_name, hub_repository, split_adapter


@pytest.mark.parametrize(
    "name",
    [
        "org/model",
        "org/model@v1.0",
        "org/model@",
        "Org_2/Model-3.1",
        "org/base+org/adapter",
        "org/base@v1+org/adapter@v2",
        "a.gguf",
    ],
)
def test_names_that_may_be_those_of_models(name):
    assert check_model_name(name) == name


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("gone", "gone"),
        ("./gone", "./gone"),
        ("/gone", "/gone"),
        ("org/model/part", "org/model/part"),
        ("-org/model", "-org/model"),
        ("org/mo del", "org/mo del"),
        ("org/base+gone", "gone"),
        ("gone+org/adapter", "gone"),
        ("org/base+org/adapter+gone", "org/adapter+gone"),
        ("@v1", "@v1"),
        ("", ""),
        ("a\0b", "a\0b"),
    ],
)
def test_names_that_cannot_be(name, part):
    with pytest.raises(CheckpointError) as refused:
        check_model_name(name)
    assert str(refused.value) == f"no checkpoint at {part}: expected {FORMS}"


def test_what_is_on_disk_decides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a+b").mkdir()
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "file").write_text("no model")
    assert check_model_name("a+b") == "a+b"
    assert split_adapter("a+b") is None
    assert split_adapter("a+b+org/c+d") == ("a+b", "org/c+d")
    with pytest.raises(CheckpointError, match="no checkpoint at org/file: "):
        check_model_name("org/file")


def test_the_parts_of_a_hub_id():
    assert hub_repository("org/model") == ("org/model", None)
    assert hub_repository("org/model@") == ("org/model", None)
    assert hub_repository("org/model@refs/pr/1") == ("org/model", "refs/pr/1")
