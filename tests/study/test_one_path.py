"""The embedded family gives the same bytes on every x86-64 processor, whatever a user has set."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from safespan.results import RunFolder
from safespan.settings.instructions import ONE_PATH

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the instruction path is one of x86-64 processors"),
]

ENVIRONMENTS = {
    "unset": {},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2", "OPENBLAS_CORETYPE": "Haswell"},
}
"""What a user may have set. Without the one path, trainings under these differ after a few steps."""

STUDY = [
    *(f"models.{role}.train.max_steps=12" for role in ("base", "aligned", "useful", "harmful", "contaminated", "safe")),
    *(f"evaluation.{kind}.limit=4" for kind in ("utility", "general", "harmfulness", "over_refusal")),
    "projection={subspaces: [alignment], fractions: [0.5]}",
    "overlap={granularities: [layer], energies: [0.5], ceiling: null}",
    "activations.models=[aligned]",
    "activations.permutations=0",
    "activations.bootstraps=0",
    "verdict={tests: [update], hypotheses: [alignment], fractions: [0.5], controls: 2, prompts: 4, resamples: 100, "
    "refusals: [sorry]}",
]


def tables(out: Path, environment: dict[str, str]) -> dict[str, bytes]:
    """Every table of a small study, run by the command under an environment."""
    inherited = {name: value for name, value in os.environ.items() if name not in ONE_PATH}
    words = [sys.executable, "-m", "safespan", "demo", "--quiet", "--out", str(out)]
    words += [word for field in STUDY for word in ("--set", field)]
    subprocess.run(words, env={**inherited, **environment}, check=True, capture_output=True)
    return {file.name: file.read_bytes() for file in sorted((out / "results").glob("*.csv"))}


def test_tables_are_the_same_bytes(tmp_path):
    found = {name: tables(tmp_path / name, environment) for name, environment in ENVIRONMENTS.items()}
    expected = found["unset"]
    assert {"models.csv", "projection.csv", "update.csv", "estimates.csv", "overlap.csv"} <= expected.keys()
    for name, own in found.items():
        differing = [file for file in expected if own.get(file) != expected[file]]
        assert not differing, name
    hardware = RunFolder(tmp_path / "avx2").read_manifest().hardware
    assert hardware["kernels"] == "DEFAULT"
    assert hardware["instruction_path"] == " ".join(f"{name}={value}" for name, value in ONE_PATH.items())
