"""Rows of every kind of file, and files that are broken."""

import csv
import json
from pathlib import Path

import polars as pl
import pyarrow.parquet
import pytest

from safespan.data import read_file
from safespan.errors import DataError

HARD = ["a, b and c", 'say "no", twice', "two\nlines, one prompt", "separator\u2028inside", "plain"]


def test_every_kind_of_file_keeps_every_character(tmp_path: Path) -> None:
    rows = [{"prompt": text, "target": "t"} for text in HARD]
    with (tmp_path / "p.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([["prompt", "target"], *([text, "t"] for text in HARD)])
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (tmp_path / "p.jsonl").write_text("\n\n".join(lines), encoding="utf-8")
    (tmp_path / "p.json").write_text(json.dumps(rows), encoding="utf-8-sig")
    (tmp_path / "wrapped.json").write_text(json.dumps({"version": 1, "data": rows}), encoding="utf-8")
    pl.DataFrame(rows).write_parquet(tmp_path / "p.parquet")
    for name in ("p.csv", "p.jsonl", "p.json", "wrapped.json", "p.parquet"):
        assert read_file(tmp_path / name) == rows, name


def test_txt_is_a_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("one, two\n\n  three \n", encoding="utf-8")
    assert read_file(path) == [{"prompt": "one, two"}, {"prompt": "three"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("names.csv", " prompt ,target\t\n"),
        ("semicolons.csv", "prompt;target\n"),
        ("tabs.csv", "prompt\ttarget\n"),
        ("tabs.tsv", "prompt \t target\n"),
        ("UPPER.CSV", "prompt,target\n"),
        ("Mixed.Tsv", "prompt\ttarget\n"),
    ],
)
def test_separators_names_and_suffixes_as_spreadsheets_write_them(tmp_path: Path, name: str, content: str) -> None:
    mark = next(mark for mark in (",", ";", "\t") if mark in content)
    texts = ["a, b; c\td", 'say "no"', "two\nlines", " spaces "]
    with (tmp_path / name).open("w", newline="", encoding="utf-8-sig") as file:
        file.write(content)
        csv.writer(file, delimiter=mark).writerows([[text, "t"] for text in texts])
    assert read_file(tmp_path / name) == [{"prompt": text, "target": "t"} for text in texts]


def test_a_header_of_one_name_needs_no_separator(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt\nwhy; then\n")
    assert read_file(tmp_path / "p.csv") == [{"prompt": "why; then"}]
    (tmp_path / "P.JSONL").write_text('{"prompt": "a"}\n')
    (tmp_path / "P.TXT").write_text("a\n")
    assert read_file(tmp_path / "P.JSONL") == read_file(tmp_path / "P.TXT") == [{"prompt": "a"}]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("spaces.csv", "prompt,prompt \nwhy,then\n", "has the column 'prompt' more than once"),
        ("empty.txt", "\n \n", "holds no rows"),
        ("empty.csv", "prompt\n", "holds no rows"),
        ("twice.csv", "prompt,prompt\nwhy,then\n", "has the column 'prompt' more than once"),
        ("comma.csv", "prompt\nwhy, then\n", "row 1 has more fields"),
        ("broken.jsonl", '{"prompt": "a"}\n{"prompt"\n', "line 2 is not JSON"),
        ("list.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("broken.json", "[", "is not JSON"),
        ("two.json", '{"a": [{}], "b": [{}]}', "expected a list of JSON objects"),
        ("text.parquet", "no", "is not a Parquet file"),
        ("kind.xlsx", "x", "unknown kind"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, content: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=says) as caught:
        read_file(path)
    assert str(path) in str(caught.value)


def test_a_parquet_file_with_a_column_twice(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table([["a"], ["b"]], names=["prompt", "prompt"]), tmp_path / "p.parquet")
    with pytest.raises(DataError, match="has the column 'prompt' more than once"):
        read_file(tmp_path / "p.parquet")


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_file(tmp_path / "none.csv")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_file(tmp_path / "b.txt")
