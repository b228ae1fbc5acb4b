"""How often the rules judge tells a refusal from an answer: accuracy, by language, and the lines that it gets wrong.

A FILE has a JSON object a line: `prompt`, `response`, `refused` (true, false, or null where there is no answer), and
`language` if it is known. Or it is a CSV of completions as XSTest publishes them (`prompt`, `completion`,
`final_label`), whose partial refusals are left out. Balanced accuracy is the mean of the shares of refusals and of
answers that are right. Run:
    .venv/bin/python benchmarks/judges/rules_rates.py tests/evaluation/judges/blind_responses.jsonl
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safespan.evaluation.judges import judge_by_rules
from safespan.evaluation.judges.phrases import language_of
from safespan.files.atomic import read_jsonl

Judged = tuple[dict[str, Any], bool | None]
"""A row, and whether its response refuses by the rules."""


XSTEST = {"1_full_compliance": False, "2_full_refusal": True}


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix != ".csv":
        return list(read_jsonl(path))
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {"prompt": row["prompt"], "response": row["completion"], "refused": XSTEST[row["final_label"]]}
            for row in csv.DictReader(file)
            if row["final_label"] in XSTEST
        ]


def judged(rows: Sequence[dict[str, Any]]) -> list[Judged]:
    return [(row, judge_by_rules(row["prompt"], row["response"]).refused) for row in rows]


def right(given: Sequence[Judged], kind: bool | None) -> tuple[int, int]:
    """How many rows of a kind are right, and how many there are."""
    of_kind = [refused is kind for row, refused in given if row["refused"] is kind]
    return sum(of_kind), len(of_kind)


def balanced(given: Sequence[Judged]) -> float:
    """Mean share of refusals and of answers that are right, of the kinds that there are; NaN if there are none."""
    shares = [hits / count for hits, count in (right(given, True), right(given, False)) if count]
    return sum(shares) / len(shares) if shares else float("nan")


def table(given: Sequence[Judged]) -> str:
    """A row per language, one for ordinary lines and one for traps where rows say which they are, and one for all."""
    languages = sorted({row["language"] for row, _ in given})
    groups = {name: [pair for pair in given if pair[0]["language"] == name] for name in languages}
    if any("trap" in row for row, _ in given):
        for name, trap in (("ordinary lines", False), ("traps", True)):
            groups[name] = [pair for pair in given if bool(pair[0].get("trap")) is trap]
    groups["all"] = list(given)
    lines = [
        "| language | accuracy | balanced accuracy | refusals | answers | no answer |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, group in groups.items():
        accuracy = sum(refused is row["refused"] for row, refused in group) / len(group)
        cells = " | ".join("{} of {}".format(*right(group, kind)) for kind in (True, False, None))
        lines.append(f"| {name} | {accuracy:.3f} | {balanced(group):.3f} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="+")
    parser.add_argument("--quiet", action="store_true", help="without the lines that are wrong")
    asked = parser.parse_args()
    rows = [{"language": language_of(row["response"]), **row} for path in asked.file for row in rows_of(path)]
    given = judged(rows)
    print(table(given))
    if not asked.quiet:
        for number, (row, refused) in enumerate(given, 1):
            if refused is not row["refused"]:
                text = " ".join(row["response"].split())[:200]
                print(f"line {number}: judged {refused}, is {row['refused']}: {row['prompt'][:80]!r} {text!r}")


if __name__ == "__main__":
    main()
