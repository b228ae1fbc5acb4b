import csv
import json
from pathlib import Path

import pytest

from safespan.errors import DataError
from safespan.prompts import read_prompts, read_rows

HARD = ["a, b and c", 'say "no", twice', "two\nlines, one prompt", "separator\u2028inside", "plain"]


def test_csv_keeps_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    with path.open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows([["id", "prompt"], *enumerate(HARD)])
    assert read_prompts(path) == HARD


def test_jsonl_keeps_every_character(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    lines = [json.dumps({"prompt": text, "target": "t"}, ensure_ascii=False) for text in HARD]
    path.write_text("\n\n".join(lines), encoding="utf-8")
    assert read_rows(path) == [{"prompt": text, "target": "t"} for text in HARD]


def test_txt_is_a_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("one, two\n\n  three \n", encoding="utf-8")
    assert read_prompts(path) == ["one, two", "three"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.txt", "\n \n", "no prompts"),
        ("empty.csv", "prompt\n", "no prompts"),
        ("field.csv", "question\nwhy\n", "no text in the field 'prompt'"),
        ("comma.csv", "prompt\nwhy, then\n", "row 1 has more fields"),
        ("blank.jsonl", '{"prompt": "a"}\n{"prompt": " "}\n', "row 2 has no text"),
        ("number.jsonl", '{"prompt": 3}\n', "row 1 has no text"),
        ("broken.jsonl", '{"prompt": "a"}\n{"prompt"\n', "line 2 is not JSON"),
        ("list.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("kind.xlsx", "x", "unknown kind"),
    ],
)
def test_bad_file_is_named(tmp_path: Path, name: str, content: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=says) as caught:
        read_prompts(path)
    assert str(path) in str(caught.value)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_rows(tmp_path / "none.csv")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_rows(tmp_path / "b.txt")
