import threading

import pytest
import torch

from safespan.linalg import device
from safespan.linalg.parallel import parallel_map


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.setattr(device, "usable_cores", lambda: 2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_in_order_from_single_threaded_workers(two_threads):
    both = threading.Barrier(2, timeout=20)

    def work(item):
        if item < 2:
            both.wait()  # passes only if two items are worked on at once
        return item, torch.get_num_threads()

    assert list(parallel_map(work, range(9))) == [(item, 1) for item in range(9)]
    assert torch.get_num_threads() == 2


def test_there_are_no_more_workers_than_cores(two_threads, monkeypatch):
    monkeypatch.setattr(device, "usable_cores", lambda: 1)
    assert set(parallel_map(lambda _: threading.get_ident(), range(3))) == {threading.get_ident()}


def test_an_exception_ends_it_and_gives_the_threads_back(two_threads):
    begun = []

    def work(item):
        begun.append(item)
        if item == 0:
            raise ValueError("bad tensor")
        threading.Event().wait(0.01)

    with pytest.raises(ValueError, match="bad tensor"):
        list(parallel_map(work, range(1000)))
    assert len(begun) < 1000
    assert torch.get_num_threads() == 2


def test_one_thread_needs_no_pool():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert set(parallel_map(lambda _: threading.get_ident(), range(3))) == {threading.get_ident()}
    finally:
        torch.set_num_threads(before)
