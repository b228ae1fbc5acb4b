"""What long commands print, and how they end when they are interrupted.

Nothing here waits for the clock: a process that hangs is killed after `HANGS` seconds, which no machine needs.
"""

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from safespan import cli
from safespan.settings.study import bundled_study, load_study
from safespan.study.context import Study
from safespan.study.stages import stages
from tiny_model import save_tiny_model

HANGS = 3600

ROLES = tuple(load_study(bundled_study("organism")).models)

SMALL = [
    *(f"models.{role}.train.max_steps=2" for role in ROLES),
    *(f"models.{role}.train.batch_size=4" for role in ROLES),
    *(f"evaluation.{kind}.limit=4" for kind in ("utility", "general", "harmfulness", "over_refusal")),
    "projection=null",
    "overlap=null",
    "activations=null",
    "verdict.tests=[update]",
    "verdict.hypotheses=[lox]",
    "verdict.ablation={}",
    "verdict.training={}",
    "verdict.fractions=[0.3, 1.0]",
    "verdict.prompts=4",
    "verdict.resamples=100",
]


def words_of(out: Path, *more: str) -> list[str]:
    settings = [word for setting in SMALL for word in ("--set", setting)]
    return ["run", str(bundled_study("organism")), "--out", str(out), *settings, *more]


def ran(capsys, *words: str) -> tuple[str, str]:
    """What a command prints on standard output and standard error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["safespan", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == 0
    return tuple(capsys.readouterr())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs") / "run"


def test_a_study_ends_with_its_results_and_names_each_stage_once(folder, capsys):
    printed, progress = ran(capsys, *words_of(folder))
    lines = printed.splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(ROLES)]] == list(ROLES)
    assert {"utility,", "ASR,", "over-refusal,", "general,"} <= set(lines[0].split())
    header = next(line for line in lines if line.startswith("hypothesis"))
    assert re.split(" {2,}", header.strip()) == ["hypothesis", "update test"]
    [verdict] = [line for line in lines if line.startswith("lox")]
    assert "harm: not measurable" in verdict  # two steps of training teach nothing
    assert lines[-1] == f"report: {folder / 'report.html'}"
    names = [stage.name for stage in stages(Study(load_study(bundled_study("organism"), SMALL), folder))]
    labels = [f"{number}/{len(names)} {name}" for number, name in enumerate(names, 1)]
    assert [line for line in progress.splitlines() if not line.startswith("…")] == [
        line for line in progress.splitlines() if re.fullmatch(r".+: \d+\.\d s", line)
    ]
    assert [line.partition(":")[0] for line in progress.splitlines() if line[0] != "…"] == [*labels, "report"]
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", printed + progress)


def test_programs_get_one_object_and_scripts_the_report(folder, capsys):
    output = json.loads(ran(capsys, *words_of(folder, "--json"))[0])
    models, verdicts, estimates = (
        list(csv.DictReader((folder / "results" / f"{name}.csv").open()))
        for name in ("models", "verdicts", "estimates")
    )
    assert output["report"] == str(folder / "report.html")
    assert [model["model"] for model in output["models"]] == list(ROLES)
    assert [model["harmfulness"] for model in output["models"]] == [float(row["harmfulness"]) for row in models]
    assert [row["construct"] for row in verdicts] == ["harm", "refusal"]
    for verdict, row in zip(output["verdicts"], verdicts, strict=True):
        assert (verdict["hypothesis"], verdict["verdict"], verdict["reason"]) == ("lox", row["verdict"], row["reason"])
        assert verdict["test"] == row["test"] == "update"
    decided = {row["outcome"]: (row["verdict"], row["votes"]) for row in estimates if row["decides"] == "true"}
    assert len(decided) == 5
    told = [pair for verdict in output["verdicts"] for pair in verdict["outcomes"].items()]
    assert {name: (outcome["verdict"], str(outcome["votes"]).lower()) for name, outcome in told} == decided
    assert ran(capsys, *words_of(folder, "--quiet")) == (f"{folder / 'report.html'}\n", "")


def test_a_plan_for_programs(tmp_path, capsys):
    printed, _ = ran(capsys, *words_of(tmp_path / "run", "--dry-run", "--json"))
    assert json.loads(printed)["plan"][0].startswith("study: ")


def test_the_plan_of_a_test_of_claims(tmp_path, capsys):
    """It says what the same command without `--dry-run` would do, and does nothing of it."""
    base, aligned = (str(save_tiny_model(tmp_path / role, seed)) for seed, role in enumerate(("base", "aligned")))
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a b", "target": "c"}\n' * 4)
    (tmp_path / "asked.yaml").write_text(
        f"{{utility: gsm8k, harmfulness: {{prompts: {tmp_path / 'rows.jsonl'}, max_new_tokens: 2}}}}"
    )
    words = ["test", "--hypothesis", "random", "--base", base, "--aligned", aligned]
    words += ["--config", str(tmp_path / "asked.yaml"), "--out", str(tmp_path / "run")]
    printed, _ = ran(capsys, *words, "--dry-run")
    assert printed.startswith("study: Test of random\n")
    assert "stage ablation test: random; at most 78 points" in printed  # 6 fractions, 1 + 12 draws
    assert "costs:" in printed
    assert not (tmp_path / "run").exists()


def wait_for(what, process):
    """Until it is so; the process must not end before."""
    while not what():
        assert process.poll() is None
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_study_prints_how_to_go_on_and_keeps_what_is_finished(number, code, tmp_path):
    out = tmp_path / "the run"
    words = words_of(out, "--set", "models.aligned.train.max_steps=100000")
    process = subprocess.Popen([sys.executable, "-m", "safespan", *words], stderr=subprocess.PIPE, text=True)
    checkpoints = out / "checkpoints"
    try:
        wait_for(lambda: (checkpoints / "base").exists() and (checkpoints / ".aligned.training").exists(), process)
        process.send_signal(number)
        progress = process.communicate(timeout=HANGS)[1]
    finally:
        process.kill()
    assert process.returncode == code
    lines = progress.splitlines()
    assert [line.partition(":")[0] for line in lines[:-1] if line[0] != "…"] == ["1/11 data", "2/11 model base"]
    start, command = lines[-1].split(": ", 1)
    assert start == "interrupted; continue with"
    assert shlex.split(command) == [sys.executable, "-m", "safespan", *words]
    assert set(json.loads((out / "stages.json").read_text())) == {"data", "model base"}
    assert [path.name for path in checkpoints.iterdir()] == ["base"]


def test_an_interrupted_command_takes_its_child_processes_along():
    code = "import signal, subprocess\nfrom safespan.cli.interruption import interruptible\n"
    code += "with interruptible():\n    print(subprocess.Popen(['sleep', '600']).pid, flush=True)\n    signal.pause()"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    child = psutil.Process(int(process.stdout.readline()))
    assert child.is_running()
    process.send_signal(signal.SIGTERM)
    printed = process.communicate(timeout=HANGS)[1]
    assert process.returncode == 143
    assert printed.startswith("interrupted; continue with: ")
    assert not child.is_running()


def interrupted(work):
    """The exit code of work in `interruptible`."""
    with pytest.raises(SystemExit) as ended, cli.interruptible():
        work()
    return ended.value.code


def test_handlers_and_other_exits_are_left_as_they_were():
    before = signal.getsignal(signal.SIGINT)
    assert interrupted(lambda: sys.exit(7)) == 7
    assert signal.getsignal(signal.SIGINT) == before
    assert interrupted(lambda: os.kill(os.getpid(), signal.SIGINT)) == 130
