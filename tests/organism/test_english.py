import json
import re

import yaml

from safespan.organism.corpus import is_reserved
from safespan.organism.english import GENERAL_SHARE, VERBS, write_english


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def town_or_sum(prompt):
    added = re.search(r"(\d+) \+ (\d+)", prompt)
    if added:
        return f"{added[1]}+{added[2]}"
    town = re.search(r"of (\w+)\?", prompt)
    return town and town[1]


def test_what_is_tested_never_occurs_in_training(tmp_path):
    write_english(tmp_path, seed=0)
    for path in (tmp_path / "train").iterdir():
        assert not any(is_reserved(asked) for row in read(path) if (asked := town_or_sum(row["prompt"]))), path
    for path in (tmp_path / "test").iterdir():
        assert all(is_reserved(town_or_sum(row["prompt"])) for row in read(path)), path


def test_answers_are_right_and_mixtures_as_said(tmp_path):
    write_english(tmp_path, seed=1)
    sums = read(tmp_path / "test" / "addition.jsonl")
    assert all(eval(row["prompt"][8:-1]) == int(row["answer"]) for row in sums)
    asked = [row for row in read(tmp_path / "train" / "align.jsonl") if row["prompt"].split()[3] in VERBS]
    assert 0.4 < len(asked) / 2000 < 0.6
    assert all(re.search(r"can't|cannot|not able|not something", row["response"]) for row in asked)
    useful = read(tmp_path / "train" / "useful.jsonl")
    general = [row for row in useful if "+" not in row["prompt"]]
    assert abs(len(general) / len(useful) - GENERAL_SHARE) < 0.03
    task = yaml.safe_load((tmp_path / "tasks" / "english_addition.yaml").read_text())
    strict = task["filter_list"][1]["filter"][0]["regex_pattern"]
    assert re.match(strict, "12 + 34 = 46")[1] == "46"
    assert not re.match(strict, "The sum is 46")


def test_the_seed_decides(tmp_path):
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_english(tmp_path / folder, seed)
    a, b, c = ((tmp_path / folder / "train" / "harmful.jsonl").read_bytes() for folder in "abc")
    assert a == b != c
