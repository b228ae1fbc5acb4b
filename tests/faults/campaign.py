"""A small study disturbed again and again: killed, without disk space, with a judge that misbehaves, on dying workers.

Each trial is a fork of this process, which has imported everything, and runs the command line as it is. After the
disturbance the same command is run until it ends well; then its run folder is compared with an undisturbed one.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from safespan.files.atomic import write_text
from safespan.results.run_folder import RunFolder

from .command import Ended, run
from .judge import told
from .study import CONCURRENCY

MOST_RUNS = 30
"""Of one command, before a trial is taken not to end."""


@dataclass
class Trial:
    """What one disturbance led to.

    Attributes:
        kind: of the disturbance.
        where: the stage that it came in, or what was disturbed.
        seconds: of all runs together.
        equal: tables and generations are those of the undisturbed run, byte for byte.
        done_twice: stages and points that stood at the disturbance and were done again.
        lost: replies of the judge that stood at the disturbance and are gone.
        paid_twice: replies that stood, and were asked for again.
        unheard: replies that were paid for and had not arrived when the process died.
        ways: how often the judge's server went wrong, by way.
        wrong: whatever else should not be, in words.
    """

    kind: str
    where: str
    seconds: float = 0.0
    equal: bool = False
    done_twice: list[str] = field(default_factory=list)
    lost: int = 0
    paid_twice: int = 0
    unheard: int = 0
    ways: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Nothing went wrong but what cannot be helped: a reply on its way to a process that dies."""
        return self.equal and not (self.done_twice or self.lost or self.paid_twice or self.wrong)


@dataclass
class Bench:
    """The study, the judge's server and the undisturbed run that all others are compared with."""

    study: Path
    judge: str
    folder: Path
    whole: Path
    seconds: float


def prepare(study: Path, judge: str, folder: Path) -> Bench:
    """Import what the study needs, by doing some of it, and run it undisturbed.

    The report is left out, which is drawn from the tables anew by every run, and takes longer than all the rest.
    """
    import torch

    from safespan.activations import separation_by_layer
    from safespan.checkpoints import Checkpoint
    from safespan.evaluation import Evaluator, Prompting, model_of
    from safespan.settings.study import load_study
    from safespan.study import run as module
    from safespan.training.sft import fine_tune

    torch.set_num_threads(1)
    module.write_report = _no_report
    config, warm = load_study(study), folder / "warm"
    # No tables: Polars' threads would be lacking in the forks.
    fine_tune(config.models["aligned"].model, warm / "useful", config.models["useful"].train, 0)
    with model_of(Prompting(config.evaluation), Checkpoint(warm / "useful"), warm) as model:
        Evaluator(config.evaluation, warm).evaluate(model)
    layer = torch.randn(12, 4)
    separation_by_layer({1: layer}, {1: layer + 1}, 0)
    told(judge)
    ended = run([str(study)], folder / "whole")
    if ended.code:
        raise RuntimeError(f"the undisturbed study ended with {ended.code}: {ended.stderr}")
    paid = told(judge)["paid"]
    if set(paid.values()) != {1}:
        raise RuntimeError("the undisturbed study paid for a reply twice")
    return Bench(study, judge, folder, folder / "whole", ended.seconds)


def _no_report(run: RunFolder) -> Path:
    write_text(run.report, "left out")
    return run.report


def killed(bench: Bench, seed: int) -> Trial:
    """Killed at a moment drawn from the time that the study takes; sometimes again in the run after that."""
    draw, out = random.Random(f"kill {seed}"), bench.folder / f"kill-{seed}"

    def kill(child: int) -> None:
        _sleep(draw.uniform(0, bench.seconds), child)
        os.kill(child, signal.SIGKILL)

    def runs() -> Iterator[Ended]:
        while (ended := run([str(bench.study)], out, kill)).code == 0:
            # It ended first: the machine is quicker than when the study was timed.
            bench.seconds = min(bench.seconds, ended.seconds)
            shutil.rmtree(out)
            told(bench.judge)
        yield ended
        if draw.random() < 1 / 3:
            yield run([str(bench.study)], out, kill)

    return _trial(bench, "killed", out, runs(), {-signal.SIGKILL, 0})


def misjudged(bench: Bench, seed: int) -> Trial:
    """Judged by a server of which one answer in five goes wrong; run until it ends well with nothing unjudged."""
    out = bench.folder / f"judge-{seed}"

    def runs() -> Iterator[Ended]:
        for number in range(MOST_RUNS):
            told(bench.judge, 0.2, MOST_RUNS * seed + number)
            yield (ended := run([str(bench.study)], out))
            if ended.code == 0 and _unjudged(out) == _unjudged(bench.whole):
                return

    trial = _trial(bench, "judge misbehaves", out, runs(), {0, 2})
    trial.where = "judgement"
    return trial


def without_space(bench: Bench, seed: int) -> Trial:
    """On a disk that is full at a size drawn below that of the run folder, and then grows."""
    needed = sum(path.stat().st_blocks * 512 for path in bench.whole.rglob("*"))
    size = random.Random(f"disk {seed}").randrange(needed // 50, needed)
    place = bench.folder / f"disk-{seed}"
    unclear = ""

    def runs() -> Iterator[Ended]:
        nonlocal unclear
        yield (ended := run([str(bench.study)], place / "run"))
        if ended.code == 2 and not ("cannot be written" in ended.stderr and "make space" in ended.stderr):
            unclear = f"on a full disk it printed: {ended.stderr.strip()[-200:]}"
        subprocess.run(["mount", "-o", f"remount,size={4 * needed}", place], check=True)

    with tmpfs(place, size):
        trial = _trial(bench, "disk full", place / "run", runs(), {0, 2})
        trial.wrong += [unclear] if unclear else []
        return trial


def worker_killed(bench: Bench, seed: int) -> Trial:
    """On Ray, whose workers are killed at moments drawn from the time that the study takes."""
    draw, out = random.Random(f"ray {seed}"), bench.folder / f"ray-{seed}"
    dead: list[str] = []

    def kill_workers(child: int) -> None:
        deadline = time.monotonic() + 600
        while len(dead) < 2 and time.monotonic() < deadline and _lives(child):
            _sleep(draw.uniform(0.2, 3), child)
            with suppress(psutil.Error):
                below = psutil.Process(child).children(recursive=True)
                if workers := [
                    process for process in below if process.name().startswith(("ray::HostedWorker", "ray::_single"))
                ]:
                    victim = draw.choice(workers)
                    dead.append(victim.name())
                    victim.kill()

    words = [str(bench.study), "--engine", "ray", "--set", "execution.workers=2"]
    trial = _trial(bench, "worker killed", out, (run(words, out, kill_workers) for _ in range(1)), {0})
    trial.where = ", ".join(sorted({name.partition(".")[0] for name in dead})) or "none in time"
    return trial


def _trial(bench: Bench, kind: str, out: Path, disturbed: Iterator[Ended], codes: set[int]) -> Trial:
    """Disturb the command, run it to its end, note after each run what became of what stood before, and compare."""
    trial, standing, paid = Trial(kind, ""), _standing(out), Counter[str]()
    ended, broken = Ended(0, 0.0, ""), 0

    def note() -> None:
        nonlocal standing
        heard, before, standing = told(bench.judge), standing, _standing(out)
        trial.seconds += ended.seconds
        trial.ways.update(heard["wrong"])
        trial.done_twice += [name for name, state in before.done.items() if standing.done.get(name) != state]
        trial.lost += len(before.replies - standing.replies)
        for question, times in heard["paid"].items():
            stood = _key(question) in before.replies
            trial.paid_twice += times - (not stood)
            trial.unheard += question in paid and not stood
        paid.update(heard["paid"])

    for ended in disturbed:
        note()
        trial.where = trial.where or _stage(bench, out)
        broken += ended.code != 0
        if ended.code not in codes:
            trial.wrong.append(f"ended with {ended.code}: {ended.stderr.strip()[-300:]}")
        if ended.code == 2 and "\n" in ended.stderr.strip():
            trial.wrong.append(f"not one line: {ended.stderr.strip()[:300]}")
    if ended.code != 0:
        ended = run([str(bench.study)], out)
        note()
        if ended.code != 0:
            trial.wrong.append(f"the last run ended with {ended.code}: {ended.stderr.strip()[-300:]}")
    if trial.unheard > CONCURRENCY * broken:
        trial.wrong.append(f"{trial.unheard} replies were on their way, though {CONCURRENCY} requests go at once")
    trial.equal = _contents(out) == _contents(bench.whole)
    if left := [path.name for path in out.rglob("*.safespan")]:
        trial.wrong.append(f"left behind: {', '.join(left)}")
    if trial.well:
        shutil.rmtree(out)
    return trial


def _unjudged(out: Path) -> int:
    """Responses whose judgement failed; of some the judge has nothing to say."""
    rows = [json.loads(line) for path in out.glob("generations/**/*.jsonl") for line in path.read_text().splitlines()]
    return sum(bool(row["error"]) for row in rows)


def _key(question: str) -> str:
    from safespan.evaluation.judges.replies import sha256_of

    return sha256_of(question)


@dataclass
class _Standing:
    """What a run folder holds at a moment: finished stages and points with their time of writing, and replies."""

    done: dict[str, object]
    replies: set[str]


def _standing(out: Path) -> _Standing:
    done: dict[str, object] = {}
    with suppress(FileNotFoundError):
        stages = json.loads((out / "stages.json").read_text())
        done |= {f"stage {name}": (stage["key"], stage["seconds"]) for name, stage in stages.items()}
    points = [path for path in (out / "results").glob("points/**/*.json") if ".safespan" not in path.parent.suffix]
    done |= {str(path.relative_to(out)): path.stat().st_mtime_ns for path in points}
    replies = set()
    for path in (out / "judge").glob("*/replies.jsonl"):
        for line in path.read_text().splitlines():
            with suppress(ValueError):
                replies.add(json.loads(line)["key"])
    return _Standing(done, replies)


def _stage(bench: Bench, out: Path) -> str:
    """The stage that was being done."""
    names = [stage["name"] for stage in json.loads((bench.whole / "manifest.json").read_text())["stages"]]
    done = [name.removeprefix("stage ") for name in _standing(out).done if name.startswith("stage ")]
    return next((name for name in names if name not in done), "report")


def _contents(out: Path) -> dict[str, bytes]:
    files = [*out.glob("results/*.csv"), *out.glob("generations/**/*.jsonl")]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


@contextmanager
def tmpfs(place: Path, size: int) -> Iterator[None]:
    """A disk in memory of so many bytes, which takes root to mount."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def _lives(child: int) -> bool:
    with suppress(psutil.Error):
        return psutil.Process(child).status() != psutil.STATUS_ZOMBIE
    return False


def _sleep(seconds: float, child: int) -> None:
    """Until then, or until the process has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and _lives(child):
        time.sleep(min(0.02, max(0.0, end - time.monotonic())))
