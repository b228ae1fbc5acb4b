"""`make gpu-check` by the same path on the CPU, with tiny sizes; and the section that its figures become."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu" / "check.py"
WORK = ["sweep", "overlap", "points", "activations", "training", "likelihoods"]


def ran(script: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    alone = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([sys.executable, script, *words], capture_output=True, text=True, env=alone)


@pytest.mark.long
def test_the_cpu_agrees_with_itself_and_the_page_says_so(tmp_path: Path) -> None:
    done = ran(SCRIPT, "--device", "cpu", "--tiny", "--results", tmp_path / "gpu.json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert [row["what"] for row in found["rows"] if row["distance"] == 0 and row["within"]] == [
        *WORK[:5],
        "update",
        WORK[5],
    ]
    assert list(found["seconds"]["device"]) == [*WORK, "sweep, timed", "points, timed"]
    assert (found["device"], found["gpu_bytes"]) == ("CPU", None)
    (tmp_path / "results.json").write_text("{}")
    words = ("--results", tmp_path / "results.json", "--out", tmp_path / "page.md")
    script = ROOT / "docs" / "pages" / "performance" / "performance_page.py"
    assert ran(script, *words).returncode == 0
    assert "## On a GPU\n\nCPU, with" in (tmp_path / "page.md").read_text()
    (tmp_path / "gpu.json").unlink()
    assert ran(script, *words).returncode == 0
    assert "On a GPU" not in (tmp_path / "page.md").read_text()


def test_without_a_gpu_it_is_refused_in_one_line(tmp_path: Path) -> None:
    done = ran(SCRIPT, "--results", tmp_path / "gpu.json")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("or give --device cpu to try the script")
    assert list(tmp_path.iterdir()) == []


def test_what_differs_is_outside_its_tolerance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.gpu.check import TOLERANCES, distances

    sides = []
    for side, change in (("device", 1.1), ("cpu", 1.0)):
        folder = tmp_path / side
        (folder / "points").mkdir(parents=True)
        for name in ("points/0", "activations", "training"):
            save_file({"w": torch.ones(3) * change}, folder / f"{name}.safetensors")
        given = {"sweep": [change, float("nan")], "overlap": [change], "likelihoods": [change], "training": [change]}
        sides.append({"given": given})
    found = distances(sides[0], sides[1], (tmp_path / "device", tmp_path / "cpu"))
    assert found == pytest.approx(dict.fromkeys(TOLERANCES, 0.1))
    assert all(found[name] > most for name, (_, most) in TOLERANCES.items())
    sides[0]["given"]["sweep"] = [float("nan"), 1.0]  # a number where there is none is no agreement
    assert not distances(sides[0], sides[1], (tmp_path / "device", tmp_path / "cpu"))["sweep"] <= 1
