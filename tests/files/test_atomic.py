import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from faults.campaign import tmpfs
from safespan.errors import ConfigError, DiskFullError
from safespan.files.atomic import append, atomic_path, read_jsonl, write_jsonl, write_text

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")

    def broken_write():
        with atomic_path(target) as part:
            part.write_text("ha")
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        broken_write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_replaced_whole(tmp_path):
    for content in ("one", "two"):
        with atomic_path(tmp_path / "model") as part:
            part.mkdir()
            (part / content).write_text(content)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["two"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    done = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(number):
        done.append(("sync", Path(os.readlink(f"/proc/self/fd/{number}")).name))
        real_sync(number)

    def replace(part, target):
        done.append(("rename", Path(target).name))
        real_replace(part, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    with atomic_path(tmp_path / "new" / "model") as part:
        part.mkdir()
        (part / "file").write_text("weights")
    named = done.index(("rename", "model"))
    assert {("sync", "file"), ("sync", "model"), ("sync", tmp_path.name)} <= set(done[:named])
    assert ("sync", "new") in done[named:]


@root
@pytest.mark.parametrize("writer", ["bytes", "torch", "safetensors"])
def test_on_a_full_disk_the_old_stays_and_nothing_half(tmp_path, writer):
    big = torch.zeros(1_000_000)
    writers = {
        "bytes": lambda part: part.write_bytes(b"0" * 4_000_000),
        "torch": lambda part: torch.save(big, part),
        "safetensors": lambda part: save_file({"weights": big}, part),
    }

    def write_big(target):
        with atomic_path(target) as part:
            writers[writer](part)

    with tmpfs(tmp_path / "disk", 1_000_000):
        target = tmp_path / "disk" / "table.csv"
        target.write_text("old")
        with pytest.raises(DiskFullError, match="table.csv cannot be written: No space left on device, .* MB free"):
            write_big(target)
        assert target.read_text() == "old"
        assert list(target.parent.iterdir()) == [target]


def test_json_lines_round_trip(tmp_path):
    rows = [{"prompt": 'a "b"\nc', "score": 5}, {"prompt": "ü\u2028", "score": None}]
    write_jsonl(tmp_path / "g.jsonl", rows)
    assert read_jsonl(tmp_path / "g.jsonl") == rows


def test_what_is_appended_is_on_the_disk_when_it_returns(tmp_path, monkeypatch):
    synced = []
    real_sync = os.fsync

    def sync(number):
        path = Path(os.readlink(f"/proc/self/fd/{number}"))
        synced.append((path.name, path.read_text() if path.is_file() else None))
        real_sync(number)

    file = tmp_path / "new" / "replies"
    append(file, "one\n")
    monkeypatch.setattr(os, "fsync", sync)
    append(file, "two\n")
    assert synced == [("replies", "one\ntwo\n")]
    file.unlink()
    append(file, "three\n")
    assert synced[1:] == [("replies", "three\n"), ("new", None)]  # a new name is in its folder


def test_a_folder_without_a_name_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"\. is a folder that cannot be replaced: give a name in it"):
        write_text(Path("."), "text")
    assert list(tmp_path.iterdir()) == []
