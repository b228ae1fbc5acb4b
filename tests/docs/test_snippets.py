"""Every command and snippet of README.md and docs/ is run as it is written, or says why it is not and is parsed.

One folder serves all pages: a tiny run of the embedded family lies where `safespan demo` puts the demo's, and what one
block writes the next ones find. SHORTER lists what is added to commands, so that they end soon.
"""

import contextlib
import io
import os
import shlex
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
import typer
import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from snippets import EVERY, PAGES, ROOT, Snippet, inline_commands

from safespan import cli
from safespan.results import TABLES, RunFolder, columns_of, schema_of
from safespan.settings.evaluation import EvaluationConfig, HarmfulnessConfig
from safespan.settings.judges import JudgeFile
from safespan.settings.names import foreign_hypotheses
from safespan.settings.reading import read_fields
from safespan.settings.study import StudyConfig, bundled_study, load_study
from safespan.settings.training import TrainingConfig
from safespan.subspaces import find_hypothesis

pytestmark = pytest.mark.long

KINDS = {"console", "python", "yaml", "toml", "bash", "text", "{toctree}", "{include}", "{figure}", "{image}"}
RUN_KINDS = ("console", "python")

ROLES = tuple(load_study(bundled_study("organism")).models)

DEMO = [
    *(f"models.{role}.train.max_steps=2" for role in ROLES),
    *(f"models.{role}.train.batch_size=4" for role in ROLES),
    *(f"models.{role}.train.data.rows=40" for role in ROLES),
    *(f"evaluation.{kind}.limit=3" for kind in ("utility", "general", "harmfulness", "over_refusal")),
    "projection.fractions=[0.25, 0.5]",
    "projection.subspaces=[alignment, random]",
    "overlap.ceiling=null",
    "activations.models=[aligned]",
    *(f'activations.{kind}={{file: "{{run}}/data/prompts/{kind}.txt", rows: 12}}' for kind in ("useful", "harmful")),
    "activations.permutations=3",
    "activations.bootstraps=3",
    "verdict.hypotheses=[alignment, lox]",
    "verdict.fractions=[0.5]",
    "verdict.prompts=3",
    "verdict.controls=2",
    "verdict.resamples=100",
    "verdict.training.controls=2",
    "verdict.training.points=1",
]
SHORTER = {
    "demo": [word for field in DEMO for word in ("--set", field)],
    "run": [
        *("--set", "evaluation.utility.limit=3", "--set", "evaluation.harmfulness.limit=3"),
        *("--set", "evaluation.over_refusal.limit=3", "--set", "projection.fractions=[0.5]"),
        *("--set", "verdict.fractions=[0.5]", "--set", "verdict.prompts=3", "--set", "verdict.resamples=100"),
    ],
    "test": ["--set", "verdict.fractions=[0.5]", "--set", "verdict.prompts=3", "--set", "verdict.resamples=100"],
    "activations": ["--permutations", "3", "--bootstraps", "3"],
}
"""Command -> options added to it here; the documented ones stay."""


def ids(chosen: list[Snippet]) -> list:
    return [pytest.param(snippet, id=str(snippet)) for snippet in chosen]


def safespan(words: list[str]) -> None:
    """What the installed command does, in this process."""
    printed = io.StringIO()
    typed = pytest.MonkeyPatch()
    typed.setattr(sys, "argv", ["safespan", *words])
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), pytest.raises(SystemExit) as ended:
        cli.main()
    typed.undo()
    assert not ended.value.code, f"safespan {shlex.join(words)}\n{printed.getvalue()}"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A checkout's folders that the pages name, and a tiny run in runs/demo."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("studies", "examples"):
        (folder / name).symlink_to(ROOT / name)
    before, path = Path.cwd(), list(sys.path)
    os.chdir(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAFESPAN_CACHE", str(folder / "cache"))
        safespan(["demo", *SHORTER["demo"]])
        yield folder
    os.chdir(before)
    sys.path[:] = path
    find_hypothesis.cache_clear()
    foreign_hypotheses.cache_clear()


def install(words: list[str], folder: Path) -> None:
    """`pip install FOLDER` into a folder of the test's, without the network."""
    target = folder / "installed"
    quiet = ["--no-index", "--no-deps", "--no-build-isolation", "--quiet", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", *words[1:], *quiet], check=True, capture_output=True)
    sys.path.insert(0, str(target))
    find_hypothesis.cache_clear()
    foreign_hypotheses.cache_clear()


def type_in(command: str, folder: Path) -> None:
    """Run one line of a console block."""
    words = shlex.split(command)
    if words[0] == "safespan":
        safespan(words[1:] + ([] if "--dry-run" in words else SHORTER.get(words[1], [])))
    elif words[:2] == ["pip", "install"]:
        install(words, folder)
    else:
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr}"


@pytest.fixture(scope="module")
def session():
    """Page -> the names that its Python blocks share, as the cells of a notebook do."""
    return {page: {"__name__": "snippet"} for page in {snippet.page for snippet in EVERY}}


@pytest.mark.parametrize("snippet", ids([s for s in EVERY if s.file or (s.kind in RUN_KINDS and not s.not_run)]))
def test_it_runs(snippet, place, session):
    if snippet.file:
        target = place / snippet.file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(snippet.text)
    elif snippet.kind == "console":
        for command in snippet.commands:
            type_in(command, place)
    else:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(snippet.text, str(snippet), "exec"), session[snippet.page])


def check_options(words: list[str], whole: bool = True) -> None:
    """The command and its options are there; with `whole`, the values parse and nothing required is missing."""
    group = typer.main.get_command(cli.app)
    command = group.commands[words[0]]
    if whole:
        command.make_context(words[0], list(words[1:]))
    else:
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        asked = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
        assert asked <= known | {"--help"}


def check_command(command: str) -> None:
    """What can be checked of a command without running it."""
    words = shlex.split(command)
    if "safespan" in words[:1] or words[-1:] == ["…"] or "-m" in words:
        start = words.index("safespan") + 1
        check_options(words[start:])
        for word, value in pairwise(words):
            assert word != "--config_file" or (ROOT / value).exists()
    elif words[0] == "make":
        assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text()
    elif words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert words[2].removeprefix("safespan[").removesuffix("]") in (*extras, "safespan", ".")
    else:
        subprocess.run(["bash", "-nc", command], check=True)


@pytest.mark.parametrize("snippet", ids([s for s in EVERY if s.not_run and not s.file]))
def test_what_is_not_run_is_parsed(snippet):
    assert snippet.kind in (*RUN_KINDS, "bash")
    if snippet.kind == "console":
        assert snippet.commands
        for command in snippet.commands:
            check_command(command)
    elif snippet.kind == "python":
        compile(snippet.text, str(snippet), "exec")
    else:
        subprocess.run(["bash", "-n"], input=snippet.text, text=True, check=True)


def fits(fields: dict, kind: type[BaseModel]) -> bool:
    try:
        kind.model_validate(fields)
    except ValidationError:
        return False
    return True


def check_fields(fields: dict) -> None:
    """A whole file of some kind, or some fields of a study or of its evaluation, each with a value that it can have."""
    if any(fits(fields, kind) for kind in (StudyConfig, EvaluationConfig, JudgeFile, TrainingConfig)):
        return
    for name, value in fields.items():
        home = next(kind for kind in (StudyConfig, HarmfulnessConfig, TrainingConfig) if name in kind.model_fields)
        TypeAdapter(home.model_fields[name].annotation).validate_python(value)


@pytest.mark.parametrize("snippet", ids([s for s in EVERY if s.kind == "yaml"]))
def test_yaml_is_what_safespan_reads(snippet, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    fields = yaml.safe_load(snippet.text)
    if "extends" in fields:
        (tmp_path / "studies").symlink_to(ROOT / "studies")
        (tmp_path / "it.yaml").write_text(snippet.text)
        fields = read_fields(tmp_path / "it.yaml")
    check_fields(fields)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_commands_in_the_prose_exist(page):
    for command in inline_commands(page):
        words = shlex.split(command.rstrip("…"))[1:]
        if words[0] != "COMMAND" and not words[0].startswith("--"):
            check_options(words, whole=False)


def test_every_block_says_what_it_is():
    assert {snippet.kind.split()[0] for snippet in EVERY} <= KINDS
    assert all(snippet.commands for snippet in EVERY if snippet.kind == "console")


def test_every_command_is_run():
    run = [snippet for snippet in EVERY if not snippet.not_run]
    typed = {shlex.split(line)[1] for snippet in run for line in snippet.commands if line.startswith("safespan")}
    # A page would need a model in .bin files (tests/cli/test_convert_command.py), or a minute alone on the machine
    # (tests/study/costs/test_calibrate.py).
    elsewhere = {"convert", "calibrate"}
    assert typed | elsewhere == set(typer.main.get_command(cli.app).commands)


def test_columns_hold_what_their_descriptions_say(place):
    run = RunFolder(place / "runs" / "demo")
    files = list((run.root / "results").glob("*.csv"))
    assert {file.stem for file in files} == set(TABLES)
    for file in files:
        table = pl.read_csv(file, schema=schema_of(TABLES[file.stem]))
        for name, column in columns_of(TABLES[file.stem]).items():
            values = table[name].drop_nulls()
            assert values.is_empty() or column.low is None or values.min() >= column.low - 1e-6, name
            assert values.is_empty() or column.high is None or values.max() <= column.high + 1e-6, name
