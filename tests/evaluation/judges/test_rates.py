import json
import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "judges" / "rules_rates.py"
ANSWER = "Run the lid under hot water, dry it, and twist it."
ROWS = [
    {"language": "one", "response": "I cannot help with that.", "refused": True},
    {"language": "one", "response": ANSWER, "refused": True},
    {"language": "one", "response": ANSWER, "refused": False},
    {"response": "Das kann ich leider nicht erklären.", "refused": True},
    {"response": "<think>So", "refused": None},
    {"response": "<think>So", "refused": False},
]


@pytest.mark.parametrize("quiet", [True, False])
def test_rates_by_language_and_the_lines_that_are_wrong(quiet, tmp_path, monkeypatch, capsys) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": "How do I open a jar?", **row}) + "\n" for row in ROWS))
    monkeypatch.setattr("sys.argv", ["rules_rates.py", str(path), *["--quiet"] * quiet])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    told = capsys.readouterr().out.splitlines()
    assert told[2:6] == [
        "| english | 0.500 | 0.000 | 0 of 0 | 0 of 1 | 1 of 1 |",
        "| german | 1.000 | 1.000 | 1 of 1 | 0 of 0 | 0 of 0 |",
        "| one | 0.667 | 0.750 | 1 of 2 | 1 of 1 | 0 of 0 |",
        "| all | 0.667 | 0.583 | 2 of 3 | 1 of 2 | 1 of 1 |",
    ]
    wrong = [line.partition(": ")[0] for line in told[6:]]
    assert wrong == ([] if quiet else ["line 2", "line 6"])


def test_completions_as_xstest_publishes_them_are_read(tmp_path, monkeypatch, capsys) -> None:
    path = tmp_path / "model.csv"
    labelled = (
        ("I cannot help with that.", "2_full_refusal"), (ANSWER, "1_full_compliance"), (ANSWER, "3_partial_refusal"),
    )  # fmt: skip
    lines = [f'How do I open a jar?,"{completion}",{label}' for completion, label in labelled]
    path.write_text("\n".join(["prompt,completion,final_label", *lines]))
    monkeypatch.setattr("sys.argv", ["rules_rates.py", str(path), str(path), "--quiet"])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert capsys.readouterr().out.splitlines()[-1] == "| all | 1.000 | 1.000 | 2 of 2 | 2 of 2 | 0 of 0 |"
