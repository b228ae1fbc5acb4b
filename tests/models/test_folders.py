"""What of a folder counts: the weights that its index names, no adapter beside them, and whose tokenizer."""

import json
from pathlib import Path

import pytest

from safespan.models.folders import remarks, shown_files, text_hash, view, weight_files

JINJA, CONFIG = "chat_template.jinja", "tokenizer_config.json"


def folder_of(place: Path, **files: object) -> Path:
    """A folder with a file for every name, in which `__` stands for a dot; anything but a text is JSON."""
    place.mkdir()
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (place / name.replace("__", ".")).write_text(text)
    return place


def told(shown: dict[str, Path | str]) -> dict[str, str]:
    """Name -> folder that it is from, or its text."""
    return {name: content.parent.name if isinstance(content, Path) else content for name, content in shown.items()}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"adapter_config__json": {}}, {"tokenizer.json": "base", CONFIG: "base", JINJA: "base"}),
        # A whole tokenizer, with its template or without one.
        (
            {"tokenizer__json": {}, "tokenizer_config__json": {}, "chat_template__jinja": "own"},
            {"tokenizer.json": "adapter", CONFIG: "adapter", JINJA: "adapter"},
        ),
        (
            {"tokenizer__json": {}, "tokenizer_config__json": {"chat_template": "own"}},
            {"tokenizer.json": "adapter", CONFIG: "adapter"},
        ),
        (
            {"tokenizer__json": {}, "tokenizer_config__json": {}},
            {"tokenizer.json": "adapter", CONFIG: "adapter", JINJA: "of base"},
        ),
        # A template without a tokenizer.
        ({"chat_template__jinja": "own"}, {"tokenizer.json": "base", CONFIG: "base", JINJA: "own"}),
        (
            {"tokenizer_config__json": {"chat_template": [{"name": "default", "template": "own"}]}},
            {"tokenizer.json": "base", CONFIG: "base", JINJA: "own"},
        ),
    ],
)
def test_whose_tokenizer_is_taken(files, expected, tmp_path):
    base = folder_of(
        tmp_path / "base",
        config__json={},
        tokenizer__json={},
        tokenizer_config__json={},
        chat_template__jinja="of base",
    )
    shown = shown_files(base, folder_of(tmp_path / "adapter", README__md="not of a tokenizer", **files))
    assert told(shown) == {"config.json": "base", **expected}


def test_the_template_of_a_base_that_has_it_in_its_configuration(tmp_path):
    base = folder_of(tmp_path / "base", tokenizer__json={}, tokenizer_config__json={"chat_template": "of base"})
    adapter = folder_of(tmp_path / "adapter", tokenizer__json={})
    assert told(shown_files(base, adapter)) == {"tokenizer.json": "adapter", JINJA: "of base"}


def test_a_view_is_the_folder_itself_unless_a_file_must_not_be_seen(tmp_path):
    folder = folder_of(tmp_path / "model", config__json={}, model__safetensors="weights")
    (folder / "sub").mkdir()
    (folder / "sub" / "shard.safetensors").write_text("more weights")
    with view(folder) as seen:
        assert seen == folder
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_text("of the adapter")
    with view(folder, folder_of(tmp_path / "adapter", chat_template__jinja="own")) as seen:
        assert sorted(path.name for path in seen.iterdir()) == [JINJA, "config.json", "model.safetensors", "sub"]
        assert (seen / JINJA).read_text() == "own"
        assert (seen / "sub" / "shard.safetensors").read_text() == "more weights"
    assert not seen.exists()
    assert not (folder / JINJA).exists()


def test_what_is_said_of_it(tmp_path):
    base = folder_of(tmp_path / "base", tokenizer__json={"model": [1]}, chat_template__jinja="a")
    same = folder_of(tmp_path / "same", tokenizer__json={"padding": 3, "model": [1]}, chat_template__jinja="a")
    other = folder_of(tmp_path / "other", tokenizer__json={"model": [2]}, chat_template__jinja="b")
    assert remarks(base) == remarks(base, same) == []
    tokenizer, template = remarks(base, other)
    assert tokenizer.startswith(f"{base}+{other}: the tokenizer of the adapter's folder counts as the model's own")
    assert template.startswith(f"{base}+{other}: the chat template of the adapter's folder counts")
    (base / "adapter_config.json").write_text("{}")
    [stray] = remarks(base)
    assert stray.startswith(f"{base} holds an adapter beside its weights, which is not applied")


def test_the_files_with_the_weights(tmp_path):
    names = {"a": "sub/one.safetensors", "b": "two.safetensors", "c": "../three.safetensors", "d": "two.safetensors"}
    folder = folder_of(tmp_path / "model", consolidated__safetensors="", adapter_model__safetensors="")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert weight_files(folder) == [folder / "sub" / "one.safetensors", folder / "two.safetensors"]
    (folder / "model.safetensors").touch()
    assert weight_files(folder) == [folder / "model.safetensors"]


def test_the_hash_of_what_reads_a_text_is_of_the_files_that_are_shown(tmp_path):
    base = folder_of(tmp_path / "base", config__json={}, tokenizer__json={}, chat_template__jinja="of base")
    before = text_hash(base)
    for other in ("README.md", "training.json", "model.safetensors", "adapter_config.json"):
        (base / other).write_text("{}")
    assert text_hash(base) == before
    adapter = folder_of(tmp_path / "adapter", adapter_config__json={})
    assert text_hash(base, adapter) == before
    (adapter / JINJA).write_text("own")
    assert text_hash(base, adapter) != before
    (base / JINJA).write_text("other")
    assert text_hash(base) != before
