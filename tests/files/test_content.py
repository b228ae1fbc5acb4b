import hashlib

import pytest

from safespan.files.content import cache_folder, content_hash, is_inner_path, is_plain_name


def test_a_files_hash_is_that_of_its_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    assert content_hash(tmp_path / "file") == hashlib.sha256(b"content").hexdigest()


def test_a_folders_hash_changes_with_names_places_and_contents(tmp_path):
    def hash_of(name, files):
        for path, text in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(text)
        return content_hash(tmp_path / name)

    files = {"a": "1", "in/b": "2"}
    assert hash_of("one", files) == hash_of("two", dict(reversed(files.items())))
    others = [
        {"a": "1", "in/b": "3"},
        {"a": "1", "in/c": "2"},
        {"a": "1", "b": "2"},
        {"a": "1"},
        {"a": "2", "in/b": "1"},
    ]
    hashes = [hash_of(f"other {number}", other) for number, other in enumerate(others)]
    assert len({hash_of("one", files), *hashes}) == 1 + len(others)


@pytest.mark.parametrize("name", ["absent", "x" * 5000, "a\0b"])
def test_what_is_not_there_has_no_hash(tmp_path, name):
    assert content_hash(tmp_path / name) is None


@pytest.mark.parametrize(
    ("name", "plain"),
    [("useful", True), ("a b.c", True), ("", False), (".", False), ("..", False), ("a/b", False), ("/a", False),
     ("../a", False), ("a\0", False), ("a/", False)],
)  # fmt: skip
def test_a_plain_name_leads_nowhere_else(name, plain):
    assert is_plain_name(name) == plain


@pytest.mark.parametrize(
    ("name", "inner"),
    [("useful", True), ("a/b/c.d", True), ("", False), ("/a", False), ("a/", False), ("a//b", False), ("./a", False),
     ("../a", False), ("a/../../b", False), ("a/b\0", False)],
)  # fmt: skip
def test_an_inner_path_stays_in_its_folder(name, inner):
    assert is_inner_path(name) == inner


def test_the_cache_folder_is_safespans_own_setting_then_xdgs_then_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("SAFESPAN_CACHE")
    assert cache_folder() == tmp_path / ".cache" / "safespan"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "safespan"
    monkeypatch.setenv("SAFESPAN_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
