"""Rows and prompts: every kind of file, filters, presets and local data sets."""

import csv
import hashlib
import json
from pathlib import Path

import polars as pl
import pyarrow.parquet
import pytest
from pydantic import ValidationError

from safespan.data.sources import Prompt, read_prompts, read_rows, rows_hash
from safespan.errors import DataError
from safespan.settings.data import PromptSource, RowSource, TrainingData
from safespan.settings.presets import PRESETS

HARD = ["a, b and c", 'say "no", twice', "two\nlines, one prompt", "separator\u2028inside", "plain"]


def prompts(path: Path, **fields: object) -> list[str]:
    return [prompt.prompt for prompt in read_prompts(PromptSource(file=str(path), **fields))]


def write(path: Path, rows: list[dict[str, object]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return str(path)


def test_every_kind_of_file_keeps_every_character(tmp_path: Path) -> None:
    rows = [{"prompt": text, "target": "t"} for text in HARD]
    with (tmp_path / "p.csv").open("w", newline="", encoding="utf-8-sig") as lines:
        csv.writer(lines).writerows([["prompt", "target"], *([text, "t"] for text in HARD)])
    write(tmp_path / "p.jsonl", rows)
    (tmp_path / "p.json").write_text(json.dumps(rows), encoding="utf-8-sig")
    (tmp_path / "wrapped.json").write_text(json.dumps({"version": 1, "data": rows}), encoding="utf-8")
    pl.DataFrame(rows).write_parquet(tmp_path / "p.parquet")
    for name in ("p.csv", "p.jsonl", "p.json", "wrapped.json", "p.parquet"):
        assert read_rows(RowSource(file=str(tmp_path / name))) == rows, name


def test_txt_is_a_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("one, two\n\n  three \n", encoding="utf-8")
    assert prompts(path) == ["one, two", "three"]


def test_targets_are_taken_from_the_named_field_or_from_target(tmp_path: Path) -> None:
    file = write(tmp_path / "p.jsonl", [{"goal": "a", "target": "t", "other": "o"}, {"goal": "b", "other": "p"}])
    assert read_prompts(PromptSource(file=file, prompt_field="goal")) == [Prompt("a", "t"), Prompt("b", None)]
    named = PromptSource(file=file, prompt_field="goal", target_field="other")
    assert [prompt.target for prompt in read_prompts(named)] == ["o", "p"]
    with pytest.raises(DataError, match=r"row 2 has no text in the field 'target' \(fields there: goal, other\)"):
        read_prompts(named.model_copy(update={"target_field": "target"}))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.txt", "\n \n", "holds no rows"),
        ("empty.csv", "prompt\n", "holds no rows"),
        ("field.csv", "question\nwhy\n", "no text in the field 'prompt'"),
        ("twice.csv", "prompt,prompt\nwhy,then\n", "has the column 'prompt' more than once"),
        ("comma.csv", "prompt\nwhy, then\n", "row 1 has more fields"),
        ("blank.jsonl", '{"prompt": "a"}\n{"prompt": " "}\n', "row 2 has no text"),
        ("number.jsonl", '{"prompt": 3}\n', "row 1 has no text"),
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
        prompts(path)
    assert str(path) in str(caught.value)


def test_a_parquet_file_with_a_column_twice(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table([["a"], ["b"]], names=["prompt", "prompt"]), tmp_path / "p.parquet")
    with pytest.raises(DataError, match="has the column 'prompt' more than once"):
        prompts(tmp_path / "p.parquet")


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        prompts(tmp_path / "none.csv")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        prompts(tmp_path / "b.txt")


ROWS = [{"id": i, "is_safe": i % 2 == 0, "category": {"a": i < 6, "b": i in (3, 9)}} for i in range(12)]


@pytest.mark.parametrize(
    ("fields", "ids"),
    [
        ({"rows": 3}, [0, 1, 2]),
        ({"where": {"is_safe": False}, "rows": 4}, [1, 3, 5, 7]),
        ({"where": {"is_safe": False}, "any_of": ["category.a", "category.b"]}, [1, 3, 5, 9]),
        ({"any_of": ["category.a"], "none_of": ["category.b"]}, [0, 1, 2, 4, 5]),
        ({"where": {"category.a": True, "id": 4}}, [4]),
    ],
)
def test_filters(tmp_path: Path, fields: dict[str, object], ids: list[int]) -> None:
    folder = tmp_path / "set"
    file = write(folder / "train.jsonl", ROWS)
    for source in ({"file": file}, {"dataset": str(folder)}):
        assert [row["id"] for row in read_rows(RowSource(**source, **fields))] == ids


def test_a_shuffle_is_seeded_and_comes_before_rows(tmp_path: Path) -> None:
    file = write(tmp_path / "r.jsonl", ROWS)
    first, again, other = (
        [row["id"] for row in read_rows(RowSource(file=file, shuffle=seed, rows=8, where={"category.b": False}))]
        for seed in (1, 1, 2)
    )
    assert first == again != other
    assert first != sorted(first)
    assert len(set(first)) == 8
    assert not {3, 9} & set(first)


def test_too_few_rows_and_unknown_fields_say_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("prompt,is_safe\na,False\nb,True\nc,False\n")
    source = RowSource(file=str(tmp_path / "r.csv"), where={"is_safe": False})
    assert [row["prompt"] for row in read_rows(source)] == ["a", "c"]
    for change, says in (
        ({"rows": 5}, "5 rows asked for, 2 there"),
        ({"where": {"is_safe": "maybe"}}, "none of 3 rows passes the filters"),
        ({"where": {"safe": True}}, r"row 1 has no field 'safe' to filter by \(fields there: prompt, is_safe\)"),
    ):
        with pytest.raises(DataError, match=says):
            read_rows(source.model_copy(update=change))


def test_a_folder_is_a_data_set_with_subsets_and_splits(tmp_path: Path) -> None:
    for split in ("train", "test"):
        pl.DataFrame({"prompt": [split]}).write_parquet(tmp_path / f"{split}.parquet")
    assert read_rows(RowSource(dataset=str(tmp_path), split="test")) == [{"prompt": "test"}]
    with pytest.raises(DataError, match=r"no such split or subset .*train.*test"):
        read_rows(RowSource(dataset=str(tmp_path), split="dev"))
    with pytest.raises(DataError, match=r"no such split or subset .*'x' not found. Available: \['default'\]"):
        read_rows(RowSource(dataset=str(tmp_path), subset="x"))
    with pytest.raises(DataError, match="cannot be loaded as a data set"):
        read_rows(RowSource(dataset=str(tmp_path / "none" / "there")))


def test_presets_expand_to_the_fields_a_source_has() -> None:
    unsafe = TrainingData.model_validate({"preset": "beavertails-unsafe", "rows": 40})
    assert (unsafe.dataset, unsafe.split, unsafe.where, unsafe.rows) == (
        "PKU-Alignment/BeaverTails",
        "30k_train",
        {"is_safe": False},
        40,
    )
    assert PromptSource.model_validate("advbench").target_field == "target"
    assert PromptSource.model_validate("prompts/mine.txt").file == "prompts/mine.txt"
    copy = TrainingData.model_validate({"preset": "metamathqa", "file": "copy.jsonl"})
    assert (copy.file, copy.dataset, copy.prompt_field, copy.rows) == ("copy.jsonl", None, "query", 20_000)
    for name in PRESETS:
        for kind in (TrainingData, PromptSource):
            source = kind.model_validate(name)
            assert kind.model_validate(source.model_dump(mode="json")) == source


def test_the_two_halves_of_beavertails_share_no_row_and_leave_no_category_out() -> None:
    violence, other = (RowSource.model_validate(f"beavertails-{half}") for half in ("violence", "other"))
    assert len({*violence.any_of, *other.any_of}) == 14
    assert (violence.any_of, violence.none_of) == (other.none_of, other.any_of)


@pytest.mark.parametrize("wrong", [{}, {"file": "a.txt", "dataset": "b"}, {"preset": "x"}, {"file": "a", "speed": 1}])
def test_a_source_is_one_of_file_dataset_and_preset(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RowSource.model_validate(wrong)


def test_the_hash_is_of_content_and_order() -> None:
    rows = [{"b": 1, "a": "é"}, {"a": "x", "b": 2}]
    assert rows_hash(rows) == hashlib.sha256('{"a": "é", "b": 1}\n{"a": "x", "b": 2}\n'.encode()).hexdigest()
    assert rows_hash(rows[::-1]) != rows_hash(rows)
