import errno
import logging
import pickle
import subprocess
import sys

import pytest
import torch

from safespan.errors import ConfigError
from safespan.subspaces import SpectrumCache, decompose
from safespan.subspaces import cache as module


def gaussian(m, n, seed=0):
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed))


def same(spectrum, expected):
    return torch.equal(spectrum.left, expected.left) and torch.equal(spectrum.values, expected.values)


@pytest.fixture
def decomposed(monkeypatch):
    """How many matrices were decomposed."""
    calls = []
    real = module.factorize
    monkeypatch.setattr(module, "factorize", lambda matrix: calls.append(matrix.shape) or real(matrix))
    return calls


@pytest.mark.parametrize("shape", [(128, 300), (300, 128), (5000, 130), (150, 150)])
def test_the_same_bits_with_and_without(shape, tmp_path, decomposed):
    matrix = gaussian(*shape)
    for _ in range(3):  # the second from a new cache over the same folder
        assert same(SpectrumCache(tmp_path).decompose(matrix), decompose(matrix))
    assert decomposed == [shape]
    SpectrumCache(tmp_path).decompose(matrix.T)
    changed = matrix.clone()
    changed[0, 0] += 1e-6
    SpectrumCache(tmp_path).decompose(changed)
    assert len(decomposed) == 3


def test_small_matrices_are_not_worth_a_file(tmp_path):
    SpectrumCache(tmp_path / "cache").decompose(gaussian(127, 500))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "another's"])
def test_a_broken_file_costs_one_line_and_is_mended(damage, tmp_path, decomposed, caplog):
    matrix = gaussian(130, 140)
    SpectrumCache(tmp_path).decompose(matrix)
    [path] = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:-100]
    elif damage == "bit":
        content[-1000] ^= 4
    elif damage == "empty":
        content = bytearray()
    else:
        SpectrumCache(tmp_path / "other").decompose(gaussian(150, 150))
        content = next((tmp_path / "other").glob("*")).read_bytes()
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert same(SpectrumCache(tmp_path).decompose(matrix), decompose(matrix))
    assert [record.getMessage() for record in caplog.records] == [f"{path} is broken: its matrix is decomposed again"]
    caplog.clear()
    before = len(decomposed)
    assert same(SpectrumCache(tmp_path).decompose(matrix), decompose(matrix))
    assert len(decomposed) == before
    assert caplog.records == []


def test_a_folder_that_cannot_be_used_costs_one_line(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    cache = SpectrumCache(tmp_path / "file" / "cache")
    with caplog.at_level(logging.WARNING):
        for seed in range(3):
            matrix = gaussian(130, 140, seed)
            assert same(cache.decompose(matrix), decompose(matrix))
    [record] = caplog.records
    assert "going on without it; set SAFESPAN_CACHE to another folder" in record.getMessage()


def test_a_full_disk_costs_one_line_and_leaves_nothing(tmp_path, monkeypatch, caplog):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    cache = SpectrumCache(tmp_path)
    with caplog.at_level(logging.WARNING):
        for seed in range(2):
            cache.decompose(gaussian(130, 140, seed))
    [record] = caplog.records
    assert "No space left on device" in record.getMessage()
    assert list(tmp_path.iterdir()) == []


def test_the_files_unused_for_longest_make_room(tmp_path, decomposed):
    room = 2.5 * 130 * 131 * 8 / 1e9  # two files, not three
    cache = SpectrumCache(tmp_path, room)
    first, second, third = (gaussian(130, 140, seed) for seed in range(3))
    for matrix in (first, second, first, third):
        cache.decompose(matrix)
    assert len(list(tmp_path.iterdir())) == 2
    cache.decompose(first)
    assert len(decomposed) == 3
    cache.decompose(second)
    assert len(decomposed) == 4
    tiny = SpectrumCache(tmp_path / "tiny", 1e-6)
    tiny.decompose(first)
    assert not (tmp_path / "tiny").exists()


def test_settings_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFESPAN_CACHE", str(tmp_path / "here"))
    matrix = gaussian(130, 140)
    assert same(pickle.loads(pickle.dumps(SpectrumCache())).decompose(matrix), decompose(matrix))
    assert len(list((tmp_path / "here").iterdir())) == 1
    monkeypatch.setenv("SAFESPAN_CACHE_GB", "much")
    with pytest.raises(ConfigError, match="SAFESPAN_CACHE_GB='much': expected a number of gigabytes"):
        SpectrumCache()


@pytest.mark.long
def test_processes_share_a_folder(tmp_path):
    """Four at once, over room for three of their five files, each removing what the others write."""
    code = """
import sys, torch
from pathlib import Path
from threadpoolctl import threadpool_limits
from safespan.subspaces import SpectrumCache, decompose
torch.set_num_threads(1)
threadpool_limits(1)
cache = SpectrumCache(Path(sys.argv[1]), 3.5 * 130 * 131 * 8 / 1e9)
for turn in range(20):
    matrix = torch.randn(130, 140, generator=torch.Generator().manual_seed(turn % 5))
    assert torch.equal(cache.decompose(matrix).left, decompose(matrix).left)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[1] for process in running] == [""] * 4
    assert [process.returncode for process in running] == [0] * 4
    assert len(list(tmp_path.iterdir())) <= 3
