"""One instruction path, chosen before any library chooses its own."""

import os
import subprocess
import sys

import pytest

from safespan.settings.instructions import ONE_PATH

CODE = """
import os, sys
{before}
from safespan.settings.instructions import take_one_path
print(take_one_path(), take_one_path(), all(name in os.environ for name in {names}))
import torch
print(torch.backends.cpu.get_cpu_capability())
"""


def told(before: str, **environment: str) -> list[str]:
    code = CODE.format(before=before, names=tuple(ONE_PATH))
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return run.stdout.split()


def test_it_is_taken_whatever_was_chosen_before():
    assert told("", ATEN_CPU_CAPABILITY="avx2", MKL_CBWR="AVX2") == ["True", "True", "True", "DEFAULT"]


def test_after_torch_it_is_too_late_and_nothing_changes():
    in_time, again, _, kernels = told("import torch", ATEN_CPU_CAPABILITY="avx2", OPENBLAS_CORETYPE="Haswell")
    assert (in_time, again) == ("False", "False")
    assert kernels != "DEFAULT" or not has_avx2()


def test_the_same_choice_by_the_user_is_in_time():
    assert told("import numpy", **ONE_PATH)[:2] == ["True", "True"]


def has_avx2() -> bool:
    return "avx2" in open("/proc/cpuinfo").read()


@pytest.fixture(autouse=True)
def _linux() -> None:
    if not os.path.exists("/proc/cpuinfo"):
        pytest.skip("instruction sets are read as Linux tells them")
