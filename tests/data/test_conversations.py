"""Conversations as rows: both forms, what is a prompt and what an answer, and rows that are none."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from safespan.data import Prompt, read_prompts, turns_of
from safespan.errors import DataError
from safespan.settings.data import PromptSource, TrainingData
from safespan.training.mixture import Example, read_examples

OPENAI = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
SHAREGPT = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
LONG = [{"role": "system", "content": "s"}, *OPENAI, {"role": "user", "content": "c"}]
TEXT = "system: s\n\nuser: a\n\nassistant: b\n\nuser: c"


def write(path: Path, *rows: dict[str, Any]) -> dict[str, str]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"file": str(path)}


@pytest.mark.parametrize(
    "row", [{"messages": OPENAI}, {"conversations": SHAREGPT}, {"id": 1, "prompt": OPENAI}, {"prompt": SHAREGPT}]
)
def test_both_forms_are_prompts_with_targets_and_training_rows(tmp_path: Path, row: dict[str, Any]) -> None:
    file = write(tmp_path / "r.jsonl", row)
    assert read_prompts(PromptSource(**file)) == [Prompt("a", "b")]
    assert read_examples(TrainingData(**file)) == [Example("a", "b")]


def test_a_parquet_file_of_messages(tmp_path: Path) -> None:
    pl.DataFrame({"messages": [OPENAI, OPENAI]}).write_parquet(tmp_path / "r.parquet")
    assert read_examples(TrainingData(file=str(tmp_path / "r.parquet"))) == [Example("a", "b")] * 2


def test_a_conversation_carries_its_turns_and_reads_as_a_text(tmp_path: Path) -> None:
    file = write(tmp_path / "r.jsonl", {"messages": LONG}, {"messages": [*LONG, {"role": "assistant", "content": "d"}]})
    first, second = read_prompts(PromptSource(**file))
    assert (first.prompt, first.target, second.target) == (TEXT, None, "d")
    assert turns_of(first.prompt) == turns_of(second.prompt) == LONG
    for again in (copy.deepcopy(first.prompt), pickle.loads(pickle.dumps(first.prompt))):
        assert (again, turns_of(again)) == (TEXT, LONG)
    assert turns_of("plain") == [{"role": "user", "content": "plain"}]
    with pytest.raises(DataError, match=r"row 1 has no text in the field 'response' \(fields there: messages\)"):
        read_examples(TrainingData(**file))


def test_a_prompt_of_turns_has_its_response_or_target_in_a_field_beside_it(tmp_path: Path) -> None:
    file = write(tmp_path / "r.jsonl", {"prompt": LONG, "response": "r", "target": "t"})
    assert read_prompts(PromptSource(**file)) == [Prompt(TEXT, "t")]
    [example] = read_examples(TrainingData(**file))
    assert (turns_of(example.prompt), example.response) == (LONG, "r")


def test_a_text_comes_before_a_conversation_and_a_named_field_before_both(tmp_path: Path) -> None:
    file = write(tmp_path / "r.jsonl", {"prompt": "p", "messages": OPENAI, "chat": [{"role": "user", "content": "x"}]})
    asked = [read_prompts(PromptSource(**file, **named)) for named in ({}, {"prompt_field": "messages"})]
    assert asked == [[Prompt("p")], [Prompt("a", "b")]]
    assert read_prompts(PromptSource(**file, prompt_field="chat")) == [Prompt("x")]
    with pytest.raises(DataError, match="no text in the field 'chats'"):
        read_prompts(PromptSource(**file, prompt_field="chats"))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], r"row 2, field 'messages': expected a list of turns such as \{role: user, content: TEXT\}"),
        ("user: a", "row 2, field 'messages': expected a list of turns"),
        (None, "row 2, field 'messages': expected a list of turns"),
        ([{"role": "tool", "content": "a"}], r"row 2, field 'messages', turn 1: expected .* given \{'role': 'tool'"),
        ([*OPENAI, {"role": "user", "content": None}], "turn 3: expected"),
        ([{"from": "human", "content": "a"}], "turn 1: expected"),
        (["a"], "turn 1: expected .* given a$"),
        ([{"role": "user", "content": " "}], "expected a conversation whose last turn is the user's"),
        (OPENAI[1:], "expected a conversation whose last turn is the user's"),
        ([{"role": "system", "content": "s"}], "expected a conversation whose last turn is the user's"),
    ],
)
def test_a_row_that_is_no_conversation_is_named(tmp_path: Path, value: object, says: str) -> None:
    file = write(tmp_path / "r.jsonl", {"messages": OPENAI}, {"messages": value})
    for read in (lambda: read_prompts(PromptSource(**file)), lambda: read_examples(TrainingData(**file))):
        with pytest.raises(DataError, match=says) as caught:
            read()
        assert str(caught.value).startswith(f"{tmp_path / 'r.jsonl'}: row 2")
