"""Shared fixtures."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Studies run in this process unless a test sets execution.workers: to start others takes longer than a tiny study.
os.environ["LOKY_MAX_CPU_COUNT"] = "1"
# Ray gives its workers a low priority: on a busy machine they would hardly run.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's own spelling

import pytest
import torch
from hypothesis import settings
from threadpoolctl import threadpool_limits

from tiny_model import save_tiny_model

pytest_plugins = ["browser"]

# One thread: a second one gains nothing on models this small, and waits for its turn on a busy machine.
torch.set_num_threads(1)
threadpool_limits(1)

# No deadlines: how long an example takes says more of the machine than of the code.
settings.register_profile("safespan", deadline=None)
settings.load_profile("safespan")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that no worker is left with one when the others are done."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decompositions are kept with the tests' files, not the user's."""
    monkeypatch.setenv("SAFESPAN_CACHE", str(tmp_path_factory.getbasetemp() / "spectra"))


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder as any Hugging Face model's, of a few kilobytes. Do not write into it."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
