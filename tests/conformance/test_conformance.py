"""A few architectures through everything; `make conformance` tries all of them and writes docs/architectures.md."""

import re

import pytest

from conformance.__main__ import END, PAGE, START, cell, table, written_rows
from conformance.architectures import KINDS, SHORT, make
from conformance.checks import CHECKS

pytestmark = pytest.mark.long
SLOW = ("three tests", "train", "train LoRA")
ALSO = {("gpt2", "train"), ("mixtral", "train LoRA"), ("gpt_oss", "three tests"), ("qwen2_5_vl", "train LoRA")}


@pytest.fixture(scope="module")
def triples(tmp_path_factory: pytest.TempPathFactory):
    place = tmp_path_factory.mktemp("models")
    return {kind: make(kind, place) for kind in SHORT}


@pytest.mark.parametrize(
    ("kind", "check"),
    [(kind, check) for kind in SHORT for check in CHECKS if check not in SLOW or (kind, check) in ALSO],
)
def test_a_cell_is_right(kind, check, triples, tmp_path, monkeypatch):
    monkeypatch.setenv("SAFESPAN_CACHE", str(tmp_path / "cache"))
    assert re.fullmatch(r"yes|\d+ %", cell(check, triples[kind], tmp_path / "work", verbose=True))


def test_the_page_has_a_row_of_every_architecture_and_no_fault():
    text = PAGE.read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f"| `{kind}` |" not in text] == []
    assert "**wrong**" not in text
    assert "**fails**" not in text


def test_a_refusal_has_its_reason_below_the_table():
    lines = table(["a", "b"], {"x": ["yes", "refused: no"], "y": ["refused: no", "refused: never"]}).split("\n")
    assert lines[2:] == ["| `x` | yes | refused [1] |", "| `y` | refused [1] | refused [2] |", "", "1. no", "2. never"]


def test_a_written_table_is_read_as_it_was():
    rows = {"x": ["yes", "refused: no (1. of 2)"], "y": ["63 %", "refused: never"]}
    assert written_rows(f"before\n{START}\n\n{table(['a', 'b'], rows)}\n\n{END}\nafter") == rows
