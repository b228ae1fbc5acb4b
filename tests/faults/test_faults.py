"""A short campaign, as `python -m tests.faults` makes a long one; and that its eyes are open."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from faults.campaign import Trial
from faults.table import BEGIN, END, table, written_into

HERE = Path(__file__).parents[2]


@pytest.mark.long
def test_a_study_that_is_disturbed_ends_as_if_it_were_not():
    disks = 2 if os.geteuid() == 0 else 0
    command = [sys.executable, "-m", "tests.faults", "--kills", "3", "--judges", "1", "--disks", str(disks)]
    ended = subprocess.run([*command, "--workers", "0"], cwd=HERE, capture_output=True, text=True, timeout=540)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"^\| killed \| all \| 3 \| 3 \| 0 \| 0 \| 0 \| \d \| 0 \|$", ended.stdout, re.MULTILINE)


def test_faults_are_counted_and_what_cannot_be_helped_is_none():
    good = Trial("killed", "projection", 2.0, equal=True, unheard=2)
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
        "6 trials; undisturbed the study takes 1.0 s, a trial in the median 4.0 s.",
    ]


def test_the_table_takes_the_place_of_the_last_one(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    written_into(page, "new")
    assert page.read_text() == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
