"""What is published: the wheel, built from the source distribution, alone in an environment with what it asks for."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import polars as pl
import pytest
import yaml

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
STUDIES = {path.name for path in (ROOT / "studies").glob("*.yaml")}
TINY = [
    *(f"models.{role}.train.max_steps=2" for role in ("base", "aligned", "useful", "harmful", "contaminated", "safe")),
    *(f"evaluation.{kind}.limit=2" for kind in ("utility", "general", "harmfulness", "over_refusal")),
    "projection.subspaces=[alignment]",
    "projection.fractions=[0.5]",
    "overlap.ceiling=null",
    "activations.models=[aligned]",
    "activations.permutations=0",
    "activations.bootstraps=0",
    "verdict.hypotheses=[alignment]",
    "verdict.ablation={}",
    "verdict.training={controls: 2, points: 1}",
    "verdict.fractions=[1.0]",
    "verdict.prompts=2",
    "verdict.resamples=100",
]
IMPORT_ALL = """
import importlib, pkgutil, safespan
for module in pkgutil.walk_packages(safespan.__path__, "safespan."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except safespan.SafespanError as error:
            print(error)
for name in safespan.__all__:
    getattr(safespan, name)
print(safespan.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dist = tmp_path_factory.mktemp("dist")
    # The build's own requirements come from the index, as for whoever builds it.
    subprocess.run([sys.executable, "-m", "build", "--outdir", dist, ROOT], check=True, capture_output=True)
    [built] = dist.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory):
    """Runs a program of an environment that holds the wheel and its dependencies, in a folder of its own."""
    place = tmp_path_factory.mktemp("alone")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SAFESPAN"))}

    def run(program: str, *words: object) -> str:
        command = [place / "bin" / program, *map(str, words)]
        done = subprocess.run(command, cwd=place, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    subprocess.run([sys.executable, "-m", "venv", place], check=True, env=clean)
    # Compiled when imported: most of what is installed never is.
    run("python", "-m", "pip", "install", "--quiet", "--no-compile", "--constraint", ROOT / "constraints.txt", wheel)
    return run


def test_the_wheel_holds_what_runs_and_nothing_else(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {f"safespan/studies/{name}" for name in STUDIES} <= held
    assert "safespan/studies/study.schema.json" in held
    sources = ROOT / "src" / "safespan"
    parts = {path.relative_to(sources.parent).as_posix() for path in sources.rglob("*") if path.is_file()}
    assert {part for part in parts if "__pycache__" not in part} <= held
    assert "safespan/py.typed" in held
    assert [name for name in held if name.startswith("safespan/report/templates/")]
    assert {name.split("/")[0] for name in held} == {"safespan", wheel.name.rpartition("-py3")[0] + ".dist-info"}
    assert not [name for name in held if re.search(r"(^|/)(test_[^/]*|[^/]*_test|conftest)\.py$", name)]


def test_the_source_distribution_holds_the_tests_and_no_runs(wheel):
    [source] = wheel.parent.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        top = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert {"src", "studies", "tests", "docs", "examples", "LICENSE", "CITATION.cff", "CHANGELOG.md"} <= top
    assert not top & {"runs", "downloads", "dist", ".venv"}
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    assert source.name == f"safespan-{cited}.tar.gz"


def test_every_module_imports_with_the_declared_dependencies_alone(alone):
    [judge, vllm, where] = alone("python", "-c", IMPORT_ALL).splitlines()
    # The two modules that need an extra say so.
    assert "pip install 'safespan[judge]'" in judge
    assert "pip install 'safespan[vllm]'" in vllm
    assert not Path(where).is_relative_to(ROOT)


def test_the_installed_command_runs_a_study_to_its_report(alone, tmp_path):
    assert "hypotheses" in alone("safespan", "--help")
    assert "safelora" in alone("safespan", "hypotheses")
    run = tmp_path / "run"
    words = [word for setting in TINY for word in ("--set", setting)]
    assert f"report: {run / 'report.html'}" in alone("safespan", "demo", "--out", run, *words)
    assert (run / "report.html").stat().st_size > 100_000
    assert set(pl.read_csv(run / "results" / "verdicts.csv")["hypothesis"]) == {"alignment", "base", "clean"}
