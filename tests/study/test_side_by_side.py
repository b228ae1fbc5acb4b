"""A study in two processes: the same models and tables as in one, and no process left behind."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import psutil
import pytest
from safetensors.torch import load_file

from faults.study import write_study
from safespan.errors import DataError
from safespan.execution import processes as module
from safespan.execution.local import Local
from safespan.results import RunFolder
from safespan.settings.study import bundled_study, load_study
from safespan.study.context import Study
from safespan.study.run import run_study
from safespan.study.stage_log import StageLog
from safespan.study.stages import batches, stages
from tiny_model import save_tiny_model

HANGS = 3600
"""Seconds that no machine needs."""

RULES = ["evaluation.harmfulness.judge=rules", "overlap.ceiling=harmful"]
TOGETHER = ["model useful", "model harmful", "model contaminated", "model harmful again"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study"), save_tiny_model, "http://127.0.0.1:9/v1")


def run_with(file, out, *settings):
    run_study(load_study(file, [*RULES, *settings]), out)
    return RunFolder(out)


@pytest.fixture(scope="module")
def one(file, tmp_path_factory):
    return run_with(file, tmp_path_factory.mktemp("runs") / "one", "execution.workers=1")


def contents(run):
    """Weights, tables and responses."""
    patterns = "checkpoints/*/*.safetensors", "results/*.csv", "generations/**/*.jsonl"
    return {path.relative_to(run.root): path.read_bytes() for one in patterns for path in sorted(run.root.glob(one))}


@pytest.mark.long
def test_two_processes_give_the_same_models_and_tables_bit_for_bit_and_are_started_once(
    file, one, tmp_path, monkeypatch
):
    started, start = [], module._Process

    def counted(cores):
        started.append(start(cores))
        return started[-1]

    monkeypatch.setattr(module, "_Process", counted)
    two = run_with(file, tmp_path / "two", "execution.workers=2")
    assert contents(two) == contents(one)
    assert len(contents(one)) > 3 + 10
    assert len(started) == 2
    assert all(process.process.poll() is not None for process in started)
    manifests = one.read_manifest(), two.read_manifest()
    assert [(found.hardware["workers"], found.hardware["threads_per_worker"]) for found in manifests] == [
        (1, 1), (2, 1)
    ]  # fmt: skip
    names = [[stage.name for stage in found.stages] for found in manifests]
    assert names[0] == names[1]
    assert names[0][:5] == ["roles", *TOGETHER]
    assert all(stage.seconds > 0 and not stage.reused for stage in manifests[1].stages[:3])
    assert not [path for path in two.root.rglob("*") if path.name.endswith((".training", ".safespan"))]


class Breaking(Local):
    """Does a number of jobs in this process, and then breaks down."""

    workers = 2

    def __init__(self, after):
        self.after, self.begun = after, []

    def run_jobs(self, make, jobs, group):
        for number, job in enumerate(jobs):
            if number == self.after:
                raise DataError("no more")
            self.begun.append(job.name)
            yield job, make()(job)


def test_what_is_finished_when_another_training_fails_is_not_done_again(file, tmp_path):
    study = Study(load_study(file, RULES), tmp_path)
    every = stages(study)
    [batch] = [batch for batch in batches(every) if len(batch) > 1]
    assert [stage.name for stage in batch] == TOGETHER
    names = [stage.name for stage in every]
    first, second = Breaking(after=1), Breaking(after=len(TOGETHER))
    with pytest.raises(DataError, match="no more"):
        StageLog(study.run, names).do_side_by_side(batch, first)
    assert first.begun == TOGETHER[:1]
    log = StageLog(study.run, names)
    log.do_side_by_side(batch, second)
    assert second.begun == TOGETHER[1:]
    assert [(record.name, record.reused) for record in log.records] == [
        (name, name == TOGETHER[0]) for name in TOGETHER
    ]


def test_only_fine_tunes_of_the_aligned_model_are_trained_side_by_side(tmp_path):
    names = [[stage.name for stage in batch] for batch in batches(stages(Study(load_organism(), tmp_path)))]
    together = ["model useful", "model harmful", "model contaminated", "model safe", "model harmful again"]
    assert names[:5] == [["data"], ["model base"], ["model aligned"], together, ["outcomes"]]
    assert all(len(batch) == 1 for batch in names[4:])
    chained = load_organism("models.harmful.start=useful", "overlap.ceiling=null")
    names = [[stage.name for stage in batch] for batch in batches(stages(Study(chained, tmp_path)))]
    assert names[3:6] == [["model useful"], ["model harmful"], ["model contaminated", "model safe"]]


def load_organism(*settings):
    return load_study(bundled_study("organism"), settings)


@contextmanager
def begun(file, out, *settings):
    """The command, at a moment when two models are in training; and the processes that train them."""
    forever = [f"models.{role}.train.{field}" for role in ("useful", "harmful") for field in FOREVER]
    words = [word for setting in (*RULES, *forever, "execution.workers=2", *settings) for word in ("--set", setting)]
    command = [sys.executable, "-m", "safespan", "run", str(file), "--out", str(out), *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True)
    try:
        while len(list((out / "checkpoints").glob(".*.training/.lock"))) < 2:
            assert process.poll() is None, process.communicate()
            signal.sigtimedwait([], 0.05)
        yield process, psutil.Process(process.pid).children(recursive=True)
    finally:
        process.kill()
        process.communicate()


FOREVER = ("max_steps=1000000", "save_steps=null")


@pytest.mark.long
def test_an_interrupted_study_leaves_neither_processes_nor_half_models(file, tmp_path):
    with begun(file, tmp_path / "run") as (process, children):
        assert len(children) == 2
        process.send_signal(signal.SIGTERM)
        printed = process.communicate(timeout=HANGS)
        assert psutil.wait_procs(children, 0)[1] == []
    assert process.returncode == 143
    assert printed[0] == ""
    assert [line.partition(":")[0] for line in printed[1].splitlines() if line[0] != "…"] == [
        "1/15 roles",
        "interrupted; continue with",
    ]
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


@pytest.mark.long
def test_a_killed_training_is_done_again_and_the_processes_end_with_the_study(file, tmp_path):
    with begun(file, tmp_path / "run") as (process, children):
        children[0].kill()
        again = []
        while not again:
            assert process.poll() is None, process.communicate()
            again = [other for other in psutil.Process(process.pid).children() if other not in children]
            signal.sigtimedwait([], 0.05)
        process.kill()
        assert psutil.wait_procs([*children, *again], HANGS)[1] == []


def test_the_memory_of_a_model_is_known(file, tmp_path):
    study = Study(load_study(file, RULES), tmp_path)
    weights = load_file(file.parent / "aligned" / "model.safetensors")
    assert study._model_bytes() == sum(weight.nbytes for weight in weights.values())  # they are float32
