"""A short campaign, as `python -m tests.faults` makes a long one; and that its eyes are open."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from faults import campaign
from faults.campaign import Bench, Ended, Trial
from faults.study import CONCURRENCY
from faults.table import table
from made import END, begin, put_into

HERE = Path(__file__).parents[2]


@pytest.mark.long
def test_a_study_that_is_disturbed_ends_as_if_it_were_not():
    disks = 1 if os.geteuid() == 0 else 0
    command = [sys.executable, "-m", "tests.faults", "--kills", "2", "--judges", "1", "--disks", str(disks)]
    ended = subprocess.run([*command, "--workers", "0"], cwd=HERE, capture_output=True, text=True, timeout=540)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"^\| killed \| all \| 2 \| 2 \| 0 \| 0 \| 0 \| \d \| 0 \|$", ended.stdout, re.MULTILINE)


def test_faults_are_counted_and_what_cannot_be_helped_is_none():
    good = Trial("killed", "projection", 2.0, equal=True, unheard=2, ways=Counter({"hangs": 2, "500": 1}))
    bad = [
        Trial("killed", "verdict", 4.0),
        Trial("killed", "verdict", 4.0, equal=True, done_twice=["stage data"]),
        Trial("disk full", "verdict", 4.0, equal=True, lost=1),
        Trial("disk full", "verdict", 4.0, equal=True, paid_twice=1),
        Trial("disk full", "verdict", 4.0, equal=True, wrong=["ended with 1"]),
    ]
    assert good.well
    assert not any(trial.well for trial in bad)
    assert table([good, *bad], 1.0).splitlines()[2:] == [
        "| killed | all | 3 | 2 | 1 | 0 | 0 | 2 | 0 |",
        "|  | projection | 1 | 1 | 0 | 0 | 0 | 2 | 0 |",
        "|  | verdict | 2 | 1 | 1 | 0 | 0 | 0 | 0 |",
        "| disk full | all | 3 | 3 | 0 | 1 | 1 | 0 | 1 |",
        "",
        "6 trials; undisturbed the study takes 1.0 s, a trial in the median 4.0 s. "
        "The judge's server went wrong 3 times: 500 (1), hangs (2).",
    ]


def test_a_fault_is_seen(tmp_path, monkeypatch):
    """What stands when the process dies, and what the same command does then, are made up; the counting is not."""
    keys = {question: campaign._key(question) for question in ("kept", "lost", "new", "on its way")}

    def folder(out, replies, at):
        for path, text in {
            "judge/j/replies.jsonl": "".join(json.dumps({"key": keys[name]}) + "\n" for name in replies),
            "results/points/p.json": "{}",
            "results/t.csv": "a\n1\n",
            "stages.json": json.dumps({"data": {"key": "k", "seconds": at}}),
            "manifest.json": json.dumps({"stages": [{"name": "data"}, {"name": "verdict"}]}),
        }.items():
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            (out / path).write_text(text)
            os.utime(out / path, (at, at))

    def again(replies, at, left=()):
        def run(words, out):
            folder(out, replies, at)
            for name in left:
                (out / name).mkdir()
            return Ended(0, 1.0, "")

        return run

    def trial(run, paid_before, paid_after):
        monkeypatch.setattr(campaign, "run", run)
        heard = [{"paid": paid, "wrong": {"500": 1}} for paid in (paid_before, paid_after)]
        monkeypatch.setattr(campaign, "told", lambda _: heard.pop(0))
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)

        def killed():
            folder(out, ["kept", "lost"], 1)
            yield Ended(-9, 1.0, "")

        return campaign._trial(bench, "killed", out, killed(), {-9})

    folder(tmp_path / "whole", [], 1)
    bench = Bench(Path(), "", tmp_path, tmp_path / "whole", 1.0)
    before = {"kept": 1, "lost": 1, "on its way": 1}
    good = trial(again(["kept", "lost", "new"], 1), before, {"new": 1, "on its way": 1})
    assert good.well
    assert (good.where, good.unheard, good.ways) == ("verdict", 1, {"500": 2})
    assert trial(again(["kept", "lost"], 1), before, {"kept": 1}).paid_twice == 1
    assert trial(again(["kept"], 1), before, {}).lost == 1
    assert trial(again(["kept", "lost"], 2), before, {}).done_twice == ["stage data", "results/points/p.json"]
    assert "left behind" in trial(again(["kept", "lost"], 1, left=[".x.safespan"]), before, {}).wrong[0]
    many = {f"{n}": 1 for n in range(CONCURRENCY + 1)}
    assert "on their way" in trial(again(["kept", "lost"], 1), many, many).wrong[0]
    (tmp_path / "whole" / "results" / "t.csv").write_text("a\n2\n")
    assert not trial(again(["kept", "lost"], 1), before, {}).equal


def test_the_table_takes_the_place_of_the_last_one(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{begin('make x')}\nold\n{END}\nafter {begin('make y')}\n")
    put_into(page, "make x", "new")
    assert page.read_text() == f"before\n{begin('make x')}\n\nnew\n\n{END}\nafter {begin('make y')}\n"
    for command in ("make y", "make z"):
        with pytest.raises(ValueError, match=f"no place for what {command} makes"):
            put_into(page, command, "new")
