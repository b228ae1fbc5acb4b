"""Rows and prompts: filters, shuffles and local data sets."""

import hashlib
import json
from pathlib import Path

import polars as pl
import pytest
from datasets import Dataset, DatasetDict

from safespan.data.sources import Prompt, read_prompts, read_rows, rows_hash
from safespan.errors import DataError
from safespan.settings.data import PromptSource, RowSource


def prompts(path: Path, **fields: object) -> list[str]:
    return [prompt.prompt for prompt in read_prompts(PromptSource(file=str(path), **fields))]


def write(path: Path, rows: list[dict[str, object]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return str(path)


def test_targets_are_taken_from_the_named_field_or_from_target(tmp_path: Path) -> None:
    file = write(tmp_path / "p.jsonl", [{"goal": "a", "target": "t", "other": "o"}, {"goal": "b", "other": "p"}])
    assert read_prompts(PromptSource(file=file, prompt_field="goal")) == [Prompt("a", "t"), Prompt("b", None)]
    named = PromptSource(file=file, prompt_field="goal", target_field="other")
    assert [prompt.target for prompt in read_prompts(named)] == ["o", "p"]
    with pytest.raises(DataError, match=r"row 2 has no text in the field 'target' \(fields there: goal, other\)"):
        read_prompts(named.model_copy(update={"target_field": "target"}))


@pytest.mark.parametrize(("target", "given"), [(5, "5"), (["a"], r"\['a'\]"), (float("nan"), "nan"), (True, "True")])
def test_a_target_that_is_no_text_is_named_with_its_row(tmp_path: Path, target: object, given: str) -> None:
    file = write(tmp_path / "p.jsonl", [{"prompt": "a", "target": None}, {"prompt": "b", "target": target}])
    with pytest.raises(DataError, match=f"row 2 has {given} in the field 'target', expected text; write it as text"):
        prompts(Path(file))
    assert read_prompts(PromptSource(file=write(tmp_path / "n.jsonl", [{"prompt": "a", "target": ""}]))) == [
        Prompt("a")
    ]


def test_rows_are_named_by_their_number_in_the_file(tmp_path: Path) -> None:
    rows = [{"prompt": "a" if n != 7 else 3, "target": "t", "keep": n % 2} for n in range(1, 10)]
    file = write(tmp_path / "r.jsonl", rows)
    for fields in ({"where": {"keep": 1}}, {"where": {"keep": 1}, "shuffle": 3}):
        with pytest.raises(DataError, match="row 7 has no text in the field 'prompt'"):
            prompts(Path(file), **fields)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "options.csv",
            "goal,target\nwhy,t\n",
            r"fields there: goal, target\); name the right field by prompt_field$",
        ),
        ("field.csv", "question\nwhy\n", "no text in the field 'prompt'"),
        ("blank.jsonl", '{"prompt": "a"}\n{"prompt": " "}\n', "row 2 has no text"),
        ("number.jsonl", '{"prompt": 3}\n', "row 1 has no text"),
    ],
)
def test_a_row_without_text_is_named(tmp_path: Path, name: str, content: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=says) as caught:
        prompts(path)
    assert str(path) in str(caught.value)


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


@pytest.mark.parametrize("option", ["file", "dataset"])
def test_folders_that_save_to_disk_wrote(tmp_path: Path, option: str) -> None:
    rows = {name: [{"prompt": f"{name} {n}"} for n in range(2)] for name in ("train", "test")}
    sets = {name: Dataset.from_list(given) for name, given in rows.items()}
    DatasetDict(sets).save_to_disk(tmp_path / "both")
    sets["test"].save_to_disk(tmp_path / "one")
    for split, given in rows.items():
        assert read_rows(RowSource(**{option: str(tmp_path / "both")}, split=split)) == given
    assert read_rows(RowSource(**{option: str(tmp_path / "one")})) == rows["test"]
    for folder in ("both", "one"):
        with pytest.raises(DataError, match=rf"{folder}.*no such split or subset \(split 'dev' is not there; it has "):
            read_rows(RowSource(**{option: str(tmp_path / folder)}, split="dev"))


def test_the_hash_is_of_content_and_order() -> None:
    rows = [{"b": 1, "a": "é"}, {"a": "x", "b": 2}]
    assert rows_hash(rows) == hashlib.sha256('{"a": "é", "b": 1}\n{"a": "x", "b": 2}\n'.encode()).hexdigest()
    assert rows_hash(rows[::-1]) != rows_hash(rows)
